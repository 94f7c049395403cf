"""Which dead letters a command takes, and which of those replay leaves alone. Pure.

Replay remembers nothing: what it needs to know stands in the letters. An event that was sent again and failed again has
a newer letter with a higher count of attempts; only the one with the highest count is sent, and only up to a maximum. So
an event that cannot succeed has one letter for each time it was replayed, however often replay is called, and then no more.
One that succeeded leaves no trace on this topic and is sent again whenever its letter is taken; the fold does not mind.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

import msgspec

from streams.dead_letter import Letter, Origin, subject

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class LetterFilter:
    """What a command takes: the letters that meet each of these that is given, the newest `limit` of them."""

    reasons: frozenset[str] = frozenset()  # any of them; all if empty
    user: str | None = None
    since: datetime | None = None  # the first moment taken
    until: datetime | None = None  # the first moment not taken any more
    limit: int | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether the letter is one of those from which the newest are taken."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (self.user is None or subject(letter).user == self.user)
        )


def moment(text: str, *, now: datetime) -> datetime:
    """The moment that an option names: RFC 3339, or a duration back from `now` such as `30m`.

    Raises ValueError, saying what is accepted.
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


class Skip(StrEnum):
    """Why replay leaves a letter alone."""

    truncated = "was cut when it became a dead letter: its value is not whole"
    elsewhere = "comes from a topic that the workers do not read"
    superseded = "has a newer dead letter of the same event, from a later attempt"
    exhausted = "was replayed as often as --max-attempts allows"


def verdict(
    letter: Letter, *, inputs: Collection[str], attempts: Mapping[bytes, int], max_attempts: int
) -> Origin | Skip:
    """Where the letter came from, if its event is to be sent there again; else why not.

    inputs: the topics that the workers read. attempts: by `identity`, the highest count of each event that was replayed
    and failed again.
    """
    if letter.truncated is not None:
        return Skip.truncated
    if letter.origin is None or letter.origin.topic not in inputs:
        return Skip.elsewhere
    if attempts.get(identity(letter), 0) > letter.attempts:
        return Skip.superseded
    if letter.attempts >= max_attempts:
        return Skip.exhausted
    return letter.origin


def identity(letter: Letter) -> bytes:
    """The same for all letters of one event: 128 bits of a hash over topic, key, value and headers of its original."""
    parts = [letter.origin.topic if letter.origin else None, letter.key, letter.value, letter.headers]
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()
