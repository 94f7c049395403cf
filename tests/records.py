"""Records as the consumer returns them, for tests without a broker."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from streams.engine.in_flight import InFlightTracker, Pending
from streams.kafka.records import Record, UnreadableRecord


def record(
    topic: str = "events",
    partition: int = 0,
    offset: int = 0,
    *,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> Record:
    """A record of a topic. Other fields have arbitrary values."""
    key_size, value_size = (-1 if content is None else len(content) for content in (key, value))
    return ConsumerRecord(topic, partition, offset, 0, 0, key, value, None, key_size, value_size, tuple(headers))


def unreadable(topic: str, partition: int, first: int, last: int, value: bytes = b"damaged") -> UnreadableRecord:
    """What stands for a batch that cannot be read."""
    places = (topic, partition, last, -1, 0, None, value, None, -1, len(value), ())
    return UnreadableRecord(*places, first, "unreadable_batch", "the checksum of the batch is wrong")


def pending(one: Record) -> Pending:
    """A record that a worker is about to process."""
    tp = TopicPartition(one.topic, one.partition)
    tracker = InFlightTracker(1)
    tracker.begin({tp: one.offset})
    tracker.put(tp, [one])
    return tracker._partitions[tp].queue[0]
