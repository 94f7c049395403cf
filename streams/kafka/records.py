"""Types of the records that are read from Kafka and sent to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from streams.exceptions import MessageError

Record = ConsumerRecord[Any, Any]  # as read; key and value are bytes, or None

Headers = Sequence[tuple[str, bytes]]

Outgoing = tuple[bytes | None, bytes | None, Headers]  # to send: key, value, headers


@dataclass(eq=False)
class UnreadableRecord(ConsumerRecord[Any, Any]):
    """Stands for a record, or for all records of a batch, that cannot be read.

    Its value holds the bytes that cannot be read, as they are on the topic. It has neither key nor headers.

    `offset` is the last of the offsets that it stands for, so that whoever commits or seeks behind it skips all of them.
    """

    first_offset: int
    reason: str  # of its dead letter
    problem: str  # one sentence for a person


def value_of(record: Record) -> bytes | None:
    """The value of a record. Raises MessageError if the record cannot be read."""
    if isinstance(record, UnreadableRecord):
        raise MessageError(record.reason, record.problem)
    return record.value
