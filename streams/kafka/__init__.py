"""Kafka below the workers: topics, and how their records are read.

topics          the topics as they have to be
groups          whether a consumer group belongs to the topic of the settings
metadata        ids and partitions of topics, as the broker has them now
records         the types of records
partitioning    which partition a key belongs to
batches         record batches inflated with a bound, and parsed as far as they can be parsed
reading         lets every consumer go on behind what it cannot read
following       a topic followed for as long as a worker runs, without a group
bounded_topic   a topic read from its start to its end without a group
offsets         ends of partitions
"""
