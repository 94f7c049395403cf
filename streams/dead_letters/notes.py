"""What `dlq redrive` notes on the dead letter topic about the letters whose events it sends again. Pure.

It writes two notes for each letter: one before it sends the event, and one when the broker has it, which says where the event
is now. A dead letter from that place is then known to be of this attempt. A first note without a second one belongs to a run
that was killed in between: nobody knows whether its event was sent.

Only the topic's own records count. Headers of the input say nothing about attempts, because every producer can set them; only
workers and operators write to this topic.
"""

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated

import msgspec

from streams.dead_letter import PREFIX, Letter, Origin

NOTE = PREFIX + "note"  # the header that makes a record a note; a letter never has it

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Note(msgspec.Struct, frozen=True):
    """The event of a letter is about to be sent again, or was."""

    partition: Natural  # of the letter on the dead letter topic, as `offset` is
    offset: Natural
    event: str  # `identity` of the letter
    attempt: Annotated[int, msgspec.Meta(ge=1)]  # how often the event was sent again, with this time
    to: Origin | None = None  # where the event is now; None before it is sent


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Note)


def note_value(note: Note) -> bytes:
    """The value of a note's record."""
    return _encode(note)


def note_headers() -> list[tuple[str, bytes]]:
    """The headers of a note's record."""
    return [(NOTE, b"redrive")]


def is_note(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a record of the dead letter topic is a note, and not a letter."""
    return any(name == NOTE for name, _ in headers)


def parse_note(value: bytes | None) -> Note | None:
    """Parse the value of a note's record. None if it is not valid."""
    try:
        return _decoder.decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def identity(letter: Letter) -> str:
    """The same for all letters of one event: a hash of 128 bits over topic, key, value and headers of the original, in hex."""
    parts = [letter.origin.topic if letter.origin else None, letter.key, letter.value, letter.headers]
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).hexdigest()


class History:
    """What the notes on the topic say, taken together."""

    def __init__(self, notes: Iterable[Note] = ()) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()  # first notes, by partition and offset of the letter
        self._sent: set[tuple[int, int]] = set()
        self._attempts: dict[Origin, tuple[int, str]] = {}  # attempt and event, by the place to which it was sent
        for note in notes:
            self.add(note)

    def add(self, note: Note) -> None:
        """Take a note into account."""
        letter = note.partition, note.offset
        if note.to is None:
            self._begun[letter] += 1
        else:
            self._sent.add(letter)
            self._attempts[note.to] = note.attempt, note.event

    def attempts(self, letter: Letter) -> int:
        """How often the event of a letter had been sent again before it failed.

        A topic that was re-created has other events at the same offsets, so the event has to be the same, too.
        """
        if letter.origin is None or letter.origin not in self._attempts:
            return 0
        attempt, event = self._attempts[letter.origin]
        return attempt if event == identity(letter) else 0

    def sent(self, letter: Letter) -> bool:
        """Whether the event of a letter was sent again."""
        return (letter.partition, letter.offset) in self._sent

    def doubtful(self, letter: Letter) -> int:
        """How often the event of a letter that was not `sent` may have been sent all the same, by runs that were killed."""
        return self._begun[letter.partition, letter.offset]
