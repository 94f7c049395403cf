"""An event of a data set as it is produced to `user-interactions`, and back from an event's id. Pure."""

from dataclasses import dataclass

import msgspec

from offline_training.replay.source import Event
from streams.messages import Interaction

DIGITS = 10  # of an event's number in its id: ids of one time sort as the events follow


@dataclass(frozen=True)
class Naming:
    """How events and users are called. A resumed replay repeats the ids, so that what was played twice counts once.

    stream: `DataSet.fingerprint`. tag: stands before each user's name, so that a replay meets no bag of an earlier one.
    """

    stream: str
    tag: str = ""

    @property
    def prefix(self) -> str:
        return f"replay-{self.tag}{self.stream}-"

    def event_id(self, number: int) -> str:
        return f"{self.prefix}{number:0{DIGITS}d}"

    def number(self, event_id: str) -> int | None:
        """The event's number; None for an event that is not of this replay."""
        number = event_id.removeprefix(self.prefix)
        return int(number) if number != event_id and number.isascii() and number.isdigit() else None

    def user(self, name: str) -> str:
        return self.tag + name

    def interaction(self, event: Event, image_url: str) -> Interaction:
        """The event as the workers see it; its own time is kept."""
        return Interaction(
            event_id=self.event_id(event.number),
            user_id=self.user(event.user),
            item_id=event.item,
            type=event.type,
            timestamp=event.time,
            image_url=image_url,
        )


encode = msgspec.json.Encoder().encode
"""An `Interaction` to the JSON of `user-interactions`: its fields are the message's."""
