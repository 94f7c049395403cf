"""Records as the consumer gives them, for tests that need no broker."""

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
    """A record of a topic; what is not given does not matter."""
    return ConsumerRecord(topic, partition, offset, 0, 0, key, value, None, 0, 0, tuple(headers))
