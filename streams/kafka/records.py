"""Types of the records that are read from Kafka and sent to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from streams.exceptions import MessageError

Record = ConsumerRecord[Any, Any]  # as read; key and value are bytes, or None

Headers = Sequence[tuple[str, bytes]]

SENT_AT_HEADER = "tastestream-sent-at"  # on embedded interactions: timestamp of the record that caused them

MAX_DIGITS = 15  # of a time in milliseconds: until the year 33658

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


def sent_at_header(record: Record) -> Headers:
    """The header that tells the next worker when a record was sent."""
    return ((SENT_AT_HEADER, b"%d" % record.timestamp),)


def sent_at(record: Record) -> int | None:
    """When the record that caused this one was sent, milliseconds since the epoch; None if no header says so."""
    for name, content in record.headers:
        if name == SENT_AT_HEADER and (content or b"").isdigit() and len(content) <= MAX_DIGITS:
            return int(content)
    return None
