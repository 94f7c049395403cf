"""Which record and which event the log lines of a task are about, and whether lines may name users.

The embed worker works on each event in a task of its own: it calls `working_on` once, and every line of that task names the event.
Where one task works on many, `about` names one of them for as long as the block runs.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

HIDDEN = "(hidden, because LOG_USER_IDS is off)"


class Record(Protocol):
    """Where a record of Kafka is."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class Place:
    """A record, and the event in it."""

    record: Record
    event_id: str = ""  # "" while it is unknown
    image_url: str = ""
    trace_id: str = ""  # "" if the event is not traced

    def __str__(self) -> str:
        record = self.record
        event = f" event {self.event_id}" if self.event_id else ""
        return f"{record.topic}/{record.partition}/{record.offset}{event}"


_place: ContextVar[Place | None] = ContextVar("place", default=None)
_user_ids = False


def place() -> Place | None:
    """What the current task works on."""
    return _place.get()


def working_on(record: Record, trace_id: str = "") -> None:
    """The current task works on a record from now on. `trace_id`: of its trace, if there is one."""
    _place.set(Place(record, trace_id=trace_id))


def found_event(event_id: str, image_url: str = "") -> None:
    """The record that the current task works on has this event in it."""
    at = _place.get()
    if at is not None:
        at.event_id, at.image_url = event_id, image_url


@contextmanager
def about(record: Record, event_id: str = "") -> Generator[None]:
    """The lines in this block are about a record."""
    token = _place.set(Place(record, event_id))
    try:
        yield
    finally:
        _place.reset(token)


def allow_user_ids(allowed: bool) -> None:
    """Whether `shown_user` shows users from now on."""
    global _user_ids  # noqa: PLW0603 -- one log for a process
    _user_ids = allowed


def shown_user(user: object) -> str:
    """A text that names a user, as a line of INFO and above may have it."""
    return str(user) if _user_ids else HIDDEN
