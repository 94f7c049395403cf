"""A dead letter as a record: the workers write it, `streams.dead_letters` reads it and sends its event again. Pure.

The record keeps the key, the value and the headers of the original, byte for byte. Added headers say what went wrong:

    tastestream-reason      short and stable, for filters and metrics: `missing_field`, `http_status`, `truncated_picture`, ...
    tastestream-field       the field at fault; empty for the whole message
    tastestream-error       one sentence for a person
    tastestream-topic, -partition, -offset    where the original is
    tastestream-worker      `embed` or `profile`
    tastestream-at          when the worker made it, RFC 3339
    tastestream-first-offset    the first of the offsets that the letter stands for, if it holds bytes that cannot be read as an
                            event; `-offset` is the last of them
    tastestream-truncated   size of the original's value in bytes, if it is too large for a dead letter, which holds its first part

The prefix is reserved, and every producer can set any header: headers of the original under it are dropped and mean nothing.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from streams.exceptions import EventError, MessageError
from streams.kafka.records import Headers, Record, UnreadableRecord
from streams.messages import MAX_TIMESTAMP, as_datetime, as_id, parse_interaction

PREFIX = "tastestream-"
UNKNOWN = "unknown"  # how a letter without a reason is shown: somebody else wrote it
REASONS = frozenset(
    {
        "address_not_public",
        "batch_too_large",
        "certificate_invalid",
        "content_encoding",
        "decoder_crashed",
        "empty_body",
        "empty_message",
        "headers_too_large",
        "host_not_allowed",
        "host_unavailable",
        "host_unreachable",
        "http_status",
        "internal_error",
        "invalid_embedding",
        "invalid_field",
        "invalid_json",
        "invalid_msgpack",
        "invalid_scores",
        "message_too_large",
        "missing_field",
        "not_a_picture",
        "picture_too_complex",
        "picture_too_costly",
        "picture_too_large",
        "picture_too_many_bytes",
        "port_not_allowed",
        "response_broken",
        "timeout",
        "timestamp_in_future",
        "timestamp_too_old",
        "too_many_redirects",
        "truncated_picture",
        "unreadable_batch",
        "unreadable_record",
        "url_invalid",
        "url_scheme",
        "worker_crashed",
    }
)
"""The reasons of dead letters. docs/operate/dead-letters.md explains them; a test compares them with the code."""
MAX_ERROR_CHARACTERS = 1000
HEADER_OVERHEAD = 10  # bytes that encode the lengths of one header, at most
MAX_BYTES = 900_000  # of key, value and headers together, to stay below a topic's default limit of 1 MiB


class DeadLetter(NamedTuple):
    """A record for the dead letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(record: Record, error: EventError, *, worker: str, at: datetime) -> DeadLetter:
    """The dead letter of `record`, which could not be processed because of `error`.

    Args:
        record: The original, as read.
        error: What went wrong.
        worker: `embed` or `profile`.
        at: Now, UTC.
    """
    kept = [(name, content) for name, content in record.headers if not name.startswith(PREFIX)]
    added = {
        "reason": error.reason,
        "field": error.field,
        "error": str(error)[:MAX_ERROR_CHARACTERS],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "worker": worker,
        "at": at.isoformat(),
        **({"first-offset": str(record.first_offset)} if isinstance(record, UnreadableRecord) else {}),
    }
    headers = [(PREFIX + name, value.encode(errors="replace")) for name, value in added.items()]
    value = record.value
    size = sum(len(part or b"") for part in (record.key, value, *(content for _, content in kept)))
    size += sum(len(name.encode()) + HEADER_OVERHEAD for name, _ in kept)
    if size <= MAX_BYTES:
        return DeadLetter(record.key, value, [*kept, *headers])
    headers.append((PREFIX + "truncated", b"%d" % len(value or b"")))
    return DeadLetter((record.key or b"")[: MAX_BYTES // 4] or None, value and value[: MAX_BYTES // 2], headers)


class Origin(NamedTuple):
    """Where the original of a letter is."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as read from its topic, parsed.

    Anybody can write to a topic: a header that is missing or not valid gives "", 0 or None.
    """

    partition: int  # of the dead letter topic, as `offset` is
    offset: int
    at: datetime  # when the worker made it, UTC; without a valid header, the record's own time
    reason: str
    field: str
    error: str
    worker: str
    origin: Origin | None
    truncated: int | None  # size of the original's value in bytes, if this is only its first part
    key: bytes | None  # key, value and headers are the original's
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    first_offset: int | None = (
        None  # of the offsets that the letter stands for, if its value cannot be read as an event
    )


def parse_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    *,
    partition: int,
    offset: int,
    timestamp: int,
) -> Letter:
    """Parse a record of the dead letter topic. Never raises.

    Args:
        key: The record's key.
        value: The record's value.
        headers: The record's headers.
        partition: The record's partition.
        offset: The record's offset.
        timestamp: The record's timestamp, milliseconds since the epoch.
    """
    given = tuple(headers)
    ours = _reserved(given)
    return Letter(
        partition=partition,
        offset=offset,
        at=_time(ours.get("at", "")) or as_datetime(min(max(timestamp, 0), MAX_TIMESTAMP)),
        reason=ours.get("reason", ""),
        field=ours.get("field", ""),
        error=ours.get("error", ""),
        worker=ours.get("worker", ""),
        origin=_origin(ours),
        first_offset=_number(ours["first-offset"]) or 0 if "first-offset" in ours else None,
        truncated=_number(ours["truncated"]) or 0 if "truncated" in ours else None,
        key=key,
        value=value,
        headers=tuple((name, content) for name, content in given if not name.startswith(PREFIX)),
    )


def letter_of(record: Record) -> Letter:
    """Parse a record of the dead letter topic, as read. Never raises."""
    return parse_letter(
        record.key,
        record.value,
        record.headers,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
    )


class Subject(NamedTuple):
    """The user and the event that a letter is about."""

    user: str  # "" if unknown
    event_id: str


class _Ids(msgspec.Struct):
    user_id: Any = None
    event_id: Any = None
    image_url: Any = None


def subject(letter: Letter) -> Subject:
    """The user and the event id in a letter's body. If the body names no user, the user is the key, as text.

    A valid interaction without an event id gets the derived one, which its recommendation would carry.
    """
    ids = _ids(letter)
    user, event_id = (as_id(one) or "" for one in (ids.user_id, ids.event_id))
    if user and not event_id and letter.worker != "profile":
        with suppress(MessageError):  # an event that is not valid has no derived id
            event_id = parse_interaction(letter.value, now=float("inf"), max_future=0, earliest=0).event_id
    return Subject(user or (letter.key or b"").decode(errors="replace"), event_id)


def host_of(letter: Letter) -> str:
    """The host of the picture in a letter's body, in lower case; "" if there is none."""
    url = _ids(letter).image_url
    try:
        return urlsplit(url).hostname or "" if isinstance(url, str) else ""
    except ValueError:  # no valid URL
        return ""


def _ids(letter: Letter) -> _Ids:
    try:
        if letter.worker == "profile":
            return msgspec.msgpack.decode(letter.value or b"", type=_Ids)
        return msgspec.json.decode(letter.value or b"", type=_Ids)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Ids()


def _reserved(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers under the reserved prefix, without it, as text. The last one of a name counts: workers append theirs."""
    return {
        name.removeprefix(PREFIX): (content or b"").decode(errors="replace")
        for name, content in headers
        if name.startswith(PREFIX)
    }


def _origin(ours: Mapping[str, str]) -> Origin | None:
    topic, partition, offset = ours.get("topic"), _number(ours.get("partition")), _number(ours.get("offset"))
    return Origin(topic, partition, offset) if topic and partition is not None and offset is not None else None


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None
