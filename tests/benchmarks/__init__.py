"""Benchmarks: each a command of its own, on real Kafka, with what it prints in the README."""
