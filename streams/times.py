"""Parses times as people and files write them, into milliseconds since the epoch."""

from datetime import UTC, datetime
from typing import Any

LEAST_MILLISECONDS = 10**11  # smaller numbers are seconds; as milliseconds they would be before 1974


def milliseconds_of(time: Any) -> int | None:
    """A time in any form, in milliseconds since the epoch; UTC if it has no time zone. None if it is not a time."""
    if isinstance(time, str):
        text = time.strip()
        if not text.lstrip("-").isdigit():
            try:
                time = datetime.fromisoformat(text)
            except ValueError:
                return None
        else:
            time = int(text)
    if isinstance(time, datetime):
        moment = time if time.tzinfo else time.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(time, int | float) and not isinstance(time, bool) and time >= 0:
        return in_milliseconds(time)
    return None


def in_milliseconds(time: float) -> int:
    """A time in seconds or milliseconds since the epoch, in milliseconds."""
    return int(time if time > LEAST_MILLISECONDS else time * 1000)
