"""Dead letters: what becomes of an event that cannot be processed. Pure; the workers send them.

The record keeps the key, the value and the headers of the original, byte for byte. What went wrong is in added headers:

    tastestream-reason      short and stable, for filters: `missing_field`, `http_status`, `truncated_picture`, ...
    tastestream-field       the field at fault, or empty for the whole message
    tastestream-error       one sentence for a person
    tastestream-topic, -partition, -offset    where the original stands
    tastestream-worker      `embed` or `profile`
    tastestream-at          when, RFC 3339
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from streams.delivery import Event, Headers
from streams.exceptions import EventError

PREFIX = "tastestream-"
MAX_ERROR_CHARACTERS = 1000


class DeadLetter(NamedTuple):
    """A record for the dead letter topic."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(event: Event, error: EventError, *, worker: str, at: datetime) -> DeadLetter:
    """The dead letter of `event`, which `error` made impossible to process."""
    message = event.message
    original = message.headers or ()
    kept = original.items() if isinstance(original, Mapping) else original
    added = {
        "reason": error.reason,
        "field": error.field,
        "error": str(error)[:MAX_ERROR_CHARACTERS],
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "worker": worker,
        "at": at.isoformat(),
    }
    headers = [*kept, *((PREFIX + name, value.encode(errors="replace")) for name, value in added.items())]
    return DeadLetter(message.key, message.value, headers)
