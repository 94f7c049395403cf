"""Records as the consumer returns them, for tests without a broker."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from streams.kafka.records import Record


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
    return ConsumerRecord(topic, partition, offset, 0, 0, key, value, None, 0, 0, tuple(headers))
