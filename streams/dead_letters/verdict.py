"""Whether the event of a dead letter is sent again, or why not. Pure.

Redriving keeps no state of its own: the letters say all that it needs. An event that is sent again and fails again gets
a newer letter with a higher count of attempts. Only the letter with the highest count is sent, up to a maximum. So an
event that can never succeed gets one letter for each attempt, however often `dlq redrive` runs, and then no more.

An event that succeeded leaves no trace on this topic. It is sent again whenever its letter is selected, which changes no
bag.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from hashlib import blake2b

import msgspec

from streams.dead_letter import Letter, Origin


class Skip(StrEnum):
    """Why the event of a letter is not sent."""

    truncated = "the dead letter holds only the first part of the value"
    unreadable = "the dead letter holds bytes that cannot be read as an event"
    elsewhere = "the event comes from a topic that the workers do not read"
    superseded = "a later attempt of the same event has a dead letter of its own"
    exhausted = "the event was sent again as often as --max-attempts allows"


def verdict(
    letter: Letter, *, inputs: Collection[str], attempts: Mapping[bytes, int], max_attempts: int
) -> Origin | Skip:
    """Where to send the event of a letter, or why not.

    Args:
        letter: The letter.
        inputs: The topics that the workers read.
        attempts: The highest count of attempts of each event that was sent again and failed again, by `identity`.
        max_attempts: Number of times that one event is sent again at most.
    """
    if letter.truncated is not None:
        return Skip.truncated
    if letter.first_offset is not None:
        return Skip.unreadable
    if letter.origin is None or letter.origin.topic not in inputs:
        return Skip.elsewhere
    if attempts.get(identity(letter), 0) > letter.attempts:
        return Skip.superseded
    if letter.attempts >= max_attempts:
        return Skip.exhausted
    return letter.origin


def identity(letter: Letter) -> bytes:
    """The same for all letters of one event: a hash of 128 bits over topic, key, value and headers of the original."""
    parts = [letter.origin.topic if letter.origin else None, letter.key, letter.value, letter.headers]
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()
