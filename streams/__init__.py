"""What runs: messages, topics, workers, delivery, demo, command line. `streams.cli` is the way in."""
