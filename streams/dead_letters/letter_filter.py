"""The dead letters that a command takes: by reason, topic, user and time, and the newest of those. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from streams.dead_letter import UNKNOWN, Letter, host_of, subject

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class LetterFilter:
    """Takes the letters that meet every condition that is given, and of those the newest `limit`."""

    reasons: frozenset[str] = frozenset()  # any of them; all if empty
    user: str | None = None
    since: datetime | None = None  # the first time that is taken
    until: datetime | None = None  # the first time that is no longer taken
    limit: int | None = None
    host: str | None = None  # of the picture
    topic: str | None = None  # where the original is
    places: frozenset[tuple[int, int]] | None = None  # partitions and offsets of single letters; None: any

    def matches(self, letter: Letter) -> bool:
        """Whether the letter meets the conditions, the limit aside."""
        return (
            (not self.reasons or (letter.reason or UNKNOWN) in self.reasons)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (self.places is None or (letter.partition, letter.offset) in self.places)
            and (self.user is None or subject(letter).user == self.user)
            and (self.host is None or host_of(letter) == self.host)
            and (self.topic is None or (letter.origin is not None and letter.origin.topic == self.topic))
        )


def parse_time(text: str, *, now: datetime) -> datetime:
    """The time that an option names: RFC 3339, or a duration back from `now` such as `30m`.

    Raises:
        ValueError: It is neither. The message says what is accepted.
    """
    back = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    try:
        if back:
            return now - timedelta(seconds=int(back[1]) * _UNITS[back[2]])
        return msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is neither RFC 3339 with a time zone (2026-05-01T12:00:00Z) nor a duration back from now "
            "in seconds, minutes, hours or days (90s, 30m, 2h, 7d)"
        ) from error
