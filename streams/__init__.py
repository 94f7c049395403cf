"""The running system: messages, topics, workers, demo and command line. `streams.cli` is the entry point."""
