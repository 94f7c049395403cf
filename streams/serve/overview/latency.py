"""How long events take from the producer's record to their recommendation, by a sample. Pure.

Some events are taken from the input. Their recommendations are then looked for on the output, in the partitions of their users,
from where these ended before the events were written. The times of the two records differ by what the event took.
Events whose recommendation is not found within a minute do not count: their lag tells of them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

import msgspec
from aiokafka import TopicPartition

from streams.exceptions import MessageError
from streams.kafka.batches import ParsedRecord
from streams.kafka.fetched import records_in
from streams.kafka.partitioning import partition_of
from streams.messages import parse_interaction
from streams.serve.overview.types import Latency

WINDOW = 60_000  # milliseconds of measurements that count
SAMPLES = 4000  # measurements that are kept
SEARCHES = 4  # partitions of the output that are read at a time
WANTED = 32  # events that are looked for in one of them
BEHIND = 20_000  # records between a search and the end of its partition, after which it is given up


class _Id(msgspec.Struct):
    event_id: str


_decode = msgspec.json.Decoder(_Id).decode


@dataclass
class _Search:
    """What is looked for in one partition of the output."""

    position: int
    wanted: dict[str, int] = field(default_factory=dict[str, int])  # time of the event's record, by its id


class Sampler:
    """Takes events, looks for their recommendations, and measures."""

    def __init__(self, output: str) -> None:
        """`output`: topic of the recommendations."""
        self._output = output
        self._searches: dict[TopicPartition, _Search] = {}
        self._measured: deque[tuple[int, float]] = deque(maxlen=SAMPLES)  # when, and seconds

    def take(self, data: bytes, position: int, before: Mapping[TopicPartition, int], partitions: int) -> None:
        """Take events.

        Args:
            data: of the input, from a position on.
            position: the end of the input at the last look.
            before: ends of the output at that look.
            partitions: number of partitions of the output.
        """
        records, _ = records_in(data, position)
        for record in records:
            found = _event(record)
            if found is None:
                continue
            user_id, event_id = found
            tp = TopicPartition(self._output, partition_of(user_id.encode(), partitions))
            search = self._searches.get(tp)
            if search is None:
                if len(self._searches) >= SEARCHES or tp not in before:
                    continue
                search = self._searches[tp] = _Search(before[tp])
            if len(search.wanted) < WANTED:
                search.wanted[event_id] = record.timestamp

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """Where the output is to be read, those first that look for the oldest events."""
        order = sorted(self._searches.items(), key=lambda one: min(one[1].wanted.values(), default=0))
        return {tp: search.position for tp, search in order}

    def look(self, fetched: Mapping[TopicPartition, bytes], ends: Mapping[TopicPartition, int], now: int) -> None:
        """Look for recommendations.

        Args:
            fetched: of the output, from `positions` on.
            ends: of the output.
            now: milliseconds since the epoch.
        """
        for tp, search in list(self._searches.items()):
            records, search.position = records_in(fetched.get(tp, b""), search.position)
            for record in records:
                event_id = _recommended(record)
                if event_id is not None and (sent := search.wanted.pop(event_id, None)) is not None:
                    self._measured.append((now, max(0, record.timestamp - sent) / 1000))
            behind = ends.get(tp, search.position) - search.position
            if behind <= 0:
                search.wanted = {name: sent for name, sent in search.wanted.items() if now - sent < WINDOW}
            if not search.wanted or not 0 <= behind <= BEHIND:
                del self._searches[tp]

    def latency(self, now: int) -> Latency:
        """Of the last minute."""
        while self._measured and self._measured[0][0] < now - WINDOW:
            self._measured.popleft()
        found = sorted(seconds for _, seconds in self._measured)
        return Latency(p50=_quantile(found, 0.5), p99=_quantile(found, 0.99), samples=len(found))

    def forget(self) -> None:
        """Look for nothing any more: the topics are others."""
        self._searches.clear()


def _event(record: ParsedRecord) -> tuple[str, str] | None:
    """User and event id of an event that gets a recommendation; None for another."""
    try:
        event = parse_interaction(record.value, now=float("inf"), max_future=0, earliest=0)
    except MessageError:
        return None
    return (event.user_id, event.event_id) if event.type != "erase" and record.timestamp >= 0 else None


def _recommended(record: ParsedRecord) -> str | None:
    """The event that a recommendation is for; None for an erasure, and for what is no recommendation."""
    try:
        return _decode(record.value).event_id if record.value else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _quantile(found: list[float], share: float) -> float | None:
    """The smallest value that at least this share of all values do not exceed. The values are in order."""
    return found[max(0, ceil(share * len(found)) - 1)] if found else None


def grown_in_turn(
    before: Mapping[TopicPartition, int], now: Mapping[TopicPartition, int], topic: str, *, turn: int
) -> TopicPartition | None:
    """The partition of a topic to take events from: each that has grown in its turn. None if none has."""
    grown = sorted(tp for tp, end in now.items() if tp.topic == topic and tp in before and end > before[tp])
    return grown[turn % len(grown)] if grown else None
