"""Which partition a key belongs to, as Kafka's own producers choose it. Pure."""

from aiokafka.partitioner import murmur2


def key_hash(key: bytes) -> int:
    """The number whose remainder by the number of partitions is the partition."""
    return murmur2(key) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, over the first `partitions` partitions of a topic."""
    return key_hash(key) % partitions
