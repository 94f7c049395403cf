"""A row for each second of the last hour, in memory, and how rows are joined to the steps of a chart. Pure."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import TopicPartition

from streams.serve.overview.types import History, Second

SECONDS = 3600  # that are kept; about a megabyte
_MEANS = ("events_in", "events_out", "dead_letters")
_MOST = ("p50", "p99", "lag_events", "lag_seconds")


class Rows:
    """The last hour. The oldest row goes when a newer one comes."""

    def __init__(self) -> None:
        self._rows: deque[Second] = deque(maxlen=SECONDS)

    def add(self, row: Second) -> None:
        """Add the newest row. A clock that was set back begins anew: rows would not be in order otherwise."""
        if self._rows and row.at < self._rows[-1].at:
            self._rows.clear()
        self._rows.append(row)

    @property
    def newest(self) -> Second | None:
        """The newest row; None before the first."""
        return self._rows[-1] if self._rows else None

    def steps(self, seconds: int, step: int) -> History:
        """The last `seconds` seconds in steps of `step` seconds."""
        rows = list(self._rows)
        if rows:
            rows = rows[bisect_left(rows, rows[-1].at - seconds * 1000, key=lambda row: row.at) :]
        groups: dict[int, list[Second]] = {}
        for row in rows:
            groups.setdefault(row.at // (step * 1000), []).append(row)
        columns = {name: [_mean(some, name) for some in groups.values()] for name in _MEANS}
        columns |= {name: [_most(some, name) for some in groups.values()] for name in _MOST}
        return History(step=step, at=[number * step * 1000 for number in groups], **columns)  # pyright: ignore[reportArgumentType]


def _mean(rows: Sequence[Second], name: str) -> float | None:
    known = _known(rows, name)
    return round(sum(known) / len(known), 2) if known else None


def _most(rows: Sequence[Second], name: str) -> float | None:
    return max(_known(rows, name), default=None)


def _known(rows: Iterable[Second], name: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, name)) is not None]


def rate(
    before: Mapping[TopicPartition, int], now: Mapping[TopicPartition, int], topic: str, seconds: float
) -> float | None:
    """Records per second that a topic got between two looks.

    Args:
        before: ends of partitions at the first look.
        now: at the second.
        topic: its name.
        seconds: between the looks.

    Returns:
        None if the ends of a partition are not known, or if the topic was created again.
    """
    ends = {tp: end for tp, end in now.items() if tp.topic == topic}
    if seconds <= 0 or not ends or {tp for tp in before if tp.topic == topic} - ends.keys():
        return None
    grown = [end - before[tp] for tp, end in ends.items() if tp in before]
    if not grown or min(grown) < 0:
        return None
    return round(sum(grown) / seconds, 2)
