"""Benchmarks on real Kafka. Each module is a command; docs/results/speed.md has the figures."""
