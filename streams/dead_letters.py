"""Dead letters: what becomes of an event that cannot be processed. Pure; the workers send them.

The record keeps the key, the value and the headers of the original, byte for byte. What went wrong is in added headers:

    tastestream-reason      short and stable, for filters: `missing_field`, `http_status`, `truncated_picture`, ...
    tastestream-field       the field at fault, or empty for the whole message
    tastestream-error       one sentence for a person
    tastestream-topic, -partition, -offset    where the original stands
    tastestream-worker      `embed` or `profile`
    tastestream-at          when, RFC 3339
    tastestream-truncated   only when the original is too large for any dead letter: its bytes; the value ends early
"""

from datetime import datetime
from typing import NamedTuple

from streams.delivery import Headers
from streams.engine.intake import Record
from streams.exceptions import EventError

PREFIX = "tastestream-"
MAX_ERROR_CHARACTERS = 1000
MAX_BYTES = 900_000  # of key, value and headers together: what a topic takes by default (1 MiB) has to hold it


class DeadLetter(NamedTuple):
    """A record for the dead letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(record: Record, error: EventError, *, worker: str, at: datetime) -> DeadLetter:
    """The dead letter of `record`, which `error` made impossible to process."""
    kept = list(record.headers)
    added = {
        "reason": error.reason,
        "field": error.field,
        "error": str(error)[:MAX_ERROR_CHARACTERS],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "worker": worker,
        "at": at.isoformat(),
    }
    headers = [(PREFIX + name, value.encode(errors="replace")) for name, value in added.items()]
    value = record.value
    size = sum(len(part or b"") for part in (record.key, value, *(content for _, content in kept)))
    if size <= MAX_BYTES:
        return DeadLetter(record.key, value, [*kept, *headers])
    headers.append((PREFIX + "truncated", b"%d" % len(value or b"")))
    return DeadLetter((record.key or b"")[: MAX_BYTES // 4] or None, value and value[: MAX_BYTES // 2], headers)
