"""An event to send: made of options, or a line of JSON as it is. Pure."""

from typing import NamedTuple

import msgspec

from streams.exceptions import MessageError
from streams.messages import Interaction, parse_interaction


class Event(NamedTuple):
    """An event, as it will be on the input topic."""

    value: bytes
    user_id: str  # "" if the value names none
    event_id: str  # as the answer will name it; "" if the value is not valid
    name: str  # for people: what it is about

    @property
    def key(self) -> bytes | None:
        """The record's key: the user, so that the events of a user keep their order."""
        return self.user_id.encode() or None


def event_value(**fields: str | int | None) -> bytes:
    """The JSON of an event with these fields. None is left out."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def checked_event(value: bytes, *, now: float, max_future: float, earliest: int) -> Event:
    """An event that the embed worker will accept.

    Args:
        value: JSON.
        now: The clock, seconds since the epoch.
        max_future: Seconds that its timestamp may be ahead of the clock.
        earliest: The least timestamp, milliseconds since the epoch.

    Raises:
        MessageError: The embed worker would refuse it. `field` names the field at fault.
    """
    parsed = parse_interaction(value, now=now, max_future=max_future, earliest=earliest)
    return Event(value, parsed.user_id, parsed.event_id, _name(parsed))


def unchecked_event(value: bytes) -> Event:
    """An event that the embed worker may refuse. Without a valid value, only the place of its record is known."""
    try:
        return checked_event(value, now=float("inf"), max_future=0, earliest=0)
    except MessageError:
        return Event(value, "", "", f"{len(value)} bytes")


def _name(event: Interaction) -> str:
    return " ".join(part for part in (event.user_id, event.type, event.item_id) if part)
