"""Real Kafka for the tests: a broker as a child process, nothing mocked."""
