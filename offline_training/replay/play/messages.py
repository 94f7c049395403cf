"""An event as a message on `user-interactions`, and its id. Pure."""

import re
from dataclasses import dataclass

import msgspec

from offline_training.replay.play.events import PlayedEvent
from streams.messages import Interaction

PREFIX = "replay-"  # of the ids of all events of all replays
DIGITS = 10  # of an event's number in its id: ids of events of one time then sort in the order of the events


@dataclass(frozen=True)
class Naming:
    """The ids of events and users in a replay. A resumed replay uses the same ids, so an event that is sent twice counts once.

    Attributes:
        stream: the fingerprint of the data set.
        tag: prefix of every user id, so that a replay does not meet the bags of an earlier one.
    """

    stream: str
    tag: str = ""

    @property
    def prefix(self) -> str:
        return f"{PREFIX}{self.tag}{self.stream}-"

    def event_id(self, number: int) -> str:
        return f"{self.prefix}{number:0{DIGITS}d}"

    def number(self, event_id: str) -> int | None:
        """The number of the event with this id; None for an event that is not from this replay."""
        number = event_id.removeprefix(self.prefix)
        return int(number) if number != event_id and re.fullmatch("[0-9]{1,18}", number) else None

    def user(self, name: str) -> str:
        return self.tag + name

    def interaction(self, event: PlayedEvent, image_url: str) -> Interaction:
        """The event as the workers receive it. Its timestamp is that of the data set."""
        return Interaction(
            event_id=self.event_id(event.number),
            user_id=self.user(event.user),
            item_id=event.item,
            type=event.type,
            timestamp=event.time,
            image_url=image_url,
        )


encode = msgspec.json.Encoder().encode
"""Encodes an `Interaction` as the JSON of `user-interactions`."""
