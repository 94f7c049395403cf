"""Benchmarks: each a command of its own, on real Kafka, with its figures in docs/results/speed.md."""
