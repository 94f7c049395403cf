"""Whether the event of a dead letter is sent again, or why not. Pure.

The topic itself says all that is needed: the letters, and the notes on what was sent again (`notes.py`). Each letter is sent
once. If its event fails again, that makes a new letter, which is sent in its place, up to a maximum of attempts. So an event
that can never succeed gets one letter for each attempt, however often `dlq redrive` runs, and then no more.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from streams.dead_letter import Letter
from streams.dead_letters.notes import History


class Skip(StrEnum):
    """Why the event of a letter is not sent."""

    truncated = "the dead letter holds only the first part of the value"
    unreadable = "the dead letter holds bytes that cannot be read as an event"
    elsewhere = "it does not come from a topic of events; write an item again yourself"
    sent = "the event was sent again before; if it failed again, it has a newer dead letter"
    exhausted = "the event was sent again as often as --max-attempts allows"


class Redrive(NamedTuple):
    """The event of a letter is sent again."""

    topic: str  # where to
    attempt: int  # how often it was sent again, with this time
    doubtful: bool  # whether a run that was killed may have sent it already


def verdict(letter: Letter, *, inputs: Mapping[str, str], history: History, max_attempts: int) -> Redrive | Skip:
    """Where to send the event of a letter, or why not.

    Args:
        letter: The letter.
        inputs: The topics that events came from, each with the one that the workers read now.
        history: What was sent again.
        max_attempts: Number of times that one event is sent again at most.
    """
    if letter.truncated is not None:
        return Skip.truncated
    if letter.first_offset is not None:
        return Skip.unreadable
    if letter.origin is None or letter.origin.topic not in inputs:
        return Skip.elsewhere
    if history.sent(letter):
        return Skip.sent
    doubtful = history.doubtful(letter)
    attempts = history.attempts(letter) + doubtful
    if attempts >= max_attempts:
        return Skip.exhausted
    return Redrive(inputs[letter.origin.topic], attempts + 1, doubtful > 0)
