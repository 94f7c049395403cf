"""A dead letter as a record. Pure; the workers send it, `reading.py` reads it, `replay.py` sends its event again.

The record keeps the key, the value and the headers of the original, byte for byte. What went wrong is in added headers:

    tastestream-reason      short and stable, for filters: `missing_field`, `http_status`, `truncated_picture`, ...
    tastestream-field       the field at fault, or empty for the whole message
    tastestream-error       one sentence for a person
    tastestream-topic, -partition, -offset    where the original stands
    tastestream-worker      `embed` or `profile`
    tastestream-at          when, RFC 3339
    tastestream-attempts    only when the original is a replayed one: how often it was
    tastestream-truncated   only when the original is too large for any dead letter: its bytes; the value ends early

The prefix is ours: an original's own headers under it are dropped, but for the attempts, which replay put there.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from streams.exceptions import EventError, MessageError
from streams.kafka.records import Headers, Record
from streams.messages import MAX_TIMESTAMP, as_datetime, parse_interaction

PREFIX = "tastestream-"
ATTEMPTS = PREFIX + "attempts"
MAX_ERROR_CHARACTERS = 1000
HEADER_OVERHEAD = 10  # bytes of lengths around one header, at most
MAX_BYTES = 900_000  # of key, value and headers together: what a topic takes by default (1 MiB) has to hold it


class DeadLetter(NamedTuple):
    """A record for the dead letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(record: Record, error: EventError, *, worker: str, at: datetime) -> DeadLetter:
    """The dead letter of `record`, which `error` made impossible to process."""
    kept = [(name, content) for name, content in record.headers if not name.startswith(PREFIX)]
    attempts = _attempts(_ours(record.headers))
    added = {
        "reason": error.reason,
        "field": error.field,
        "error": str(error)[:MAX_ERROR_CHARACTERS],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "worker": worker,
        "at": at.isoformat(),
        **({"attempts": str(attempts)} if attempts else {}),
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
    """Where an original stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it stands on its topic, taken apart.

    Anybody can write to a topic: what a header does not say, or says in a way that is not ours, is "", 0 or None.
    """

    partition: int  # of the dead letter topic, as `offset` is
    offset: int
    at: datetime  # when it was made, UTC; without a header of ours, the record's own time
    reason: str
    field: str
    error: str
    worker: str
    origin: Origin | None
    attempts: int  # how often the original had been replayed when it failed; 0 is never
    truncated: int | None  # bytes of the original's value, of which this has but the first
    key: bytes | None  # these three are the original's
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def parse_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    *,
    partition: int,
    offset: int,
    timestamp: int,
) -> Letter:
    """The dead letter in a record; `partition`, `offset` and `timestamp` (milliseconds) are the record's. Never raises."""
    given = tuple(headers)
    ours = _ours(given)
    return Letter(
        partition=partition,
        offset=offset,
        at=_moment(ours.get("at", "")) or as_datetime(min(max(timestamp, 0), MAX_TIMESTAMP)),
        reason=ours.get("reason", ""),
        field=ours.get("field", ""),
        error=ours.get("error", ""),
        worker=ours.get("worker", ""),
        origin=_origin(ours),
        attempts=_attempts(ours),
        truncated=_number(ours["truncated"]) or 0 if "truncated" in ours else None,
        key=key,
        value=value,
        headers=tuple((name, content) for name, content in given if not name.startswith(PREFIX)),
    )


def replay_headers(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The headers of a letter's original when it is sent again: its own, and the number of this attempt."""
    return [*letter.headers, (ATTEMPTS, b"%d" % (letter.attempts + 1))]


class Subject(NamedTuple):
    """Whom and which event a letter is about."""

    user: str  # "" when nothing says it
    event_id: str


class _Ids(msgspec.Struct):
    user_id: Any = None
    event_id: Any = None


def subject(letter: Letter) -> Subject:
    """The user and the event id in a letter's body; the user is the key, as text, where the body does not say.

    The id of a valid interaction that has none is the derived one, which its recommendation will carry.
    """
    try:
        if letter.worker == "profile":
            ids = msgspec.msgpack.decode(letter.value or b"", type=_Ids)
        else:
            ids = msgspec.json.decode(letter.value or b"", type=_Ids)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        ids = _Ids()
    user, event_id = (one if isinstance(one, str) else "" for one in (ids.user_id, ids.event_id))
    if user and not event_id and letter.worker != "profile":
        with suppress(MessageError):  # of an event that is not valid nobody will ask for the id
            event_id = parse_interaction(letter.value, now=float("inf"), max_future=0).event_id
    return Subject(user or (letter.key or b"").decode(errors="replace"), event_id)


def _ours(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers under our prefix, without it, as text. Of several with one name the last: ours stand behind the original's."""
    return {
        name.removeprefix(PREFIX): (content or b"").decode(errors="replace")
        for name, content in headers
        if name.startswith(PREFIX)
    }


def _origin(ours: Mapping[str, str]) -> Origin | None:
    topic, partition, offset = ours.get("topic"), _number(ours.get("partition")), _number(ours.get("offset"))
    return Origin(topic, partition, offset) if topic and partition is not None and offset is not None else None


def _attempts(ours: Mapping[str, str]) -> int:
    return _number(ours.get("attempts")) or 0


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
