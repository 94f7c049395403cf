"""Which record answers which event: a recommendation, a null value after an erasure, or a dead letter. Pure.

A recommendation and a null value name the event. A dead letter of the embed worker names the record that the event came in, also
if that is no event at all. A dead letter of the profile worker has the event in its body.
"""

from collections import defaultdict, deque
from typing import NamedTuple

import msgspec

from streams.dead_letter import Letter, Origin, letter_of, subject
from streams.kafka.records import Record, UnreadableRecord
from streams.messages import EVENT_ID_HEADER, Recommendation
from streams.send.events import Event


class Sent(NamedTuple):
    """An event on the input topic."""

    event: Event
    place: Origin
    at: float  # seconds on a clock, when the broker had it


class Erased(NamedTuple):
    """The user is erased: the event was an `erase`, or an erasure covers it."""


Answer = Recommendation | Erased | Letter


class Awaited:
    """Events whose answers are awaited."""

    def __init__(self, recommendations: str, dead_letters: str) -> None:
        """Nothing is awaited yet. The arguments are the names of the topics."""
        self._recommendations = recommendations
        self._dead_letters = dead_letters
        self._by_place: dict[Origin, Sent] = {}
        self._by_id: defaultdict[tuple[str, str], deque[Sent]] = defaultdict(deque)  # user and event id, as sent

    def __len__(self) -> int:
        return len(self._by_place)

    def add(self, sent: Sent) -> None:
        """Await the answer of an event."""
        self._by_place[sent.place] = sent
        if sent.event.event_id:
            self._by_id[sent.event.user_id, sent.event.event_id].append(sent)

    def take(self, record: Record) -> tuple[Sent, Answer] | None:
        """The event that a record answers, which is no longer awaited then; None if it answers none of these.

        An event that was sent twice is answered twice: the first answer counts for the first.
        """
        if isinstance(record, UnreadableRecord):
            return None
        if record.topic == self._dead_letters:
            letter = letter_of(record)
            found = self._by_place.get(letter.origin) if letter.origin else None
            if found is None and letter.worker == "profile":
                found = self._first(*subject(letter))
            return self._answered(found, letter)
        if record.topic == self._recommendations:
            if record.value is None:
                header = next((value for name, value in record.headers if name == EVENT_ID_HEADER), b"")
                found = self._first(_text(record.key), _text(header))
                return self._answered(found, Erased())
            try:
                recommendation = msgspec.json.decode(record.value, type=Recommendation)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # anybody can write to a topic
                return None
            return self._answered(self._first(recommendation.user_id, recommendation.event_id), recommendation)
        return None

    def give_up(self) -> list[Sent]:
        """The events that are still awaited, in the order in which they were sent. Nothing is awaited then."""
        left = list(self._by_place.values())
        self._by_place.clear()
        self._by_id.clear()
        return left

    def _first(self, user_id: str, event_id: str) -> Sent | None:
        sent = self._by_id.get((user_id, event_id))
        return sent[0] if sent else None

    def _answered(self, sent: Sent | None, answer: Answer) -> tuple[Sent, Answer] | None:
        if sent is None:
            return None
        del self._by_place[sent.place]
        if sent.event.event_id:
            key = sent.event.user_id, sent.event.event_id
            self._by_id[key].remove(sent)
            if not self._by_id[key]:
                del self._by_id[key]
        return sent, answer


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")
