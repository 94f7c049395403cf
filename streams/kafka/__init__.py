"""Kafka below the workers: the topics as they have to be, and a topic read from its start to its end without a group."""
