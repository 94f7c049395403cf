"""Looks whether others produce to the input topic. Their users would meet the events of a data set, and so would the figures.

Events of replays have ids of their own. Any other record is of somebody else.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.messages import PREFIX
from streams.exceptions import BrokerUnreachable
from streams.settings import Settings
from streams.text import visible

NEWEST = 200  # records of each partition that are looked at
WATCH = 2.0  # seconds in which new records are waited for: a shop's old events may have expired
POLL = 200  # milliseconds that a poll waits
SHOWN = 60  # characters of an event id in the message


class _Event(msgspec.Struct):
    event_id: str | int | None = None


_decode = msgspec.json.Decoder(_Event).decode


async def refuse_others(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], settings: Settings, *, watch: float = WATCH
) -> None:
    """Read the newest records of the input topic, and those that come while it looks.

    Args:
        consumer: is assigned to the partitions.
        partitions: of the input topic.
        settings: name the broker.
        watch: seconds in which new records are waited for.

    Raises:
        ReplayError: a record is not of a replay.
        BrokerUnreachable: the records do not come.
    """
    consumer.assign(partitions)
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    for partition, end in ends.items():
        consumer.seek(partition, max(begins[partition], end - NEWEST))
    begun = monotonic()
    while True:
        for records in (await consumer.getmany(timeout_ms=POLL)).values():
            for record in records:
                if (found := of_others(record.value)) is not None:
                    raise ReplayError(_message(record, found))
        behind = [partition for partition in partitions if await consumer.position(partition) < ends[partition]]
        passed = monotonic() - begun
        if not behind and passed > watch:
            return
        if passed > watch + settings.broker_timeout:
            raise BrokerUnreachable(f"{settings.broker} sends no records of {behind[0].topic}")


def of_others(value: bytes | None) -> str | None:
    """Say what a value of the input topic is that is not of a replay. None for one of a replay."""
    try:
        event_id = _decode(value or b"").event_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "a record that is no event"
    if event_id is None:
        return "an event without an id"
    return None if str(event_id).startswith(PREFIX) else f"event {visible(str(event_id)[:SHOWN])}"


def _message(record: Any, found: str) -> str:
    return (
        f"topic {record.topic} has events of others, such as {found} in partition {record.partition} at offset {record.offset}: a "
        "replay would change their recommendations: set TASTESTREAM_NAMESPACE for workers and replay to use topics of its own, or add "
        "--live-topics"
    )
