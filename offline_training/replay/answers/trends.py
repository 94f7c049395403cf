"""The trend that an event is scored with: the version that an answer names, or, computed here, that of the days before."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from model.aggregator import TREND_DAYS
from model.bundle import Bundle
from model.item_labels import ItemLabels
from model.quantization import HEADER_BYTES
from offline_training.replay.answers.bags import Changed
from offline_training.replay.exceptions import ReplayError
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.records import Record
from streams.profile.bag import Embedder
from streams.profile.counts import Counts, changes_of, in_hundredths
from streams.settings import Settings
from streams.trend.history import History
from streams.trend.trend import DAY, Trend

KEPT = max(days for days in TREND_DAYS if days is not None)  # days with rows of their own; the windows need no more


class Trends(Protocol):
    """The trend of each event."""

    def at(self, place: int, moment: int) -> Trend:
        """Return the trend that an event is scored with.

        Args:
            place: of the event.
            moment: milliseconds since the epoch.
        """
        ...


class NoTrends:
    """Nothing was taken. For bundles that do not use the trend."""

    def __init__(self, bundle: Bundle) -> None:
        self._nothing = Trend(None, {}, len(bundle.categories))

    def at(self, place: int, moment: int) -> Trend:
        """As `Trends.at`."""
        del place, moment
        return self._nothing


class DailyTrends:
    """What the bags of all users held at the start of each day. Events of that day do not count."""

    def __init__(self, by_day: Mapping[int, Trend], categories: int) -> None:
        """Take the trends at the start of each day that has events, by day since the epoch."""
        self._days = sorted(by_day)
        self._trends = [Trend(None, {}, categories), *(by_day[day] for day in self._days)]

    def at(self, place: int, moment: int) -> Trend:
        """The trend at the start of the day of a moment, or of the last day with events before it."""
        del place
        return self._trends[bisect_right(self._days, moment // DAY)]


def daily_trends(
    changed: Iterable[Changed], labels: ItemLabels, *, embedder_version: str, type_weights: Mapping[Any, float]
) -> DailyTrends:
    """Count what all users took, as the workers count it.

    Args:
        changed: events in time order, with their bags.
        labels: tell the categories of the items.
        embedder_version: of the embeddings that the labels take.
        type_weights: of the settings.
    """
    embedder = Embedder(embedder_version, HEADER_BYTES + labels.embedding_size)
    hundredths = in_hundredths(type_weights)
    counts, found = Counts(labels), dict[int, Trend]()
    for one in changed:
        day = one.event.time // DAY
        if day not in found:
            found[day] = _trend_before(counts, day, labels.categories)
        counts.add(changes_of(one.before, one.after, embedder=embedder, hundredths=hundredths))
    return DailyTrends(found, labels.categories)


def _trend_before(counts: Counts, day: int, categories: int) -> Trend:
    """The counts so far. What is older than the windows of `day` is one row, so that the trends of many days fit in memory."""
    rows = counts.rows()
    kept = {one: row for one, row in rows.items() if one >= day - KEPT}
    if older := [row for one, row in rows.items() if one < day - KEPT]:
        kept[day - KEPT - 1] = np.sum(older, axis=0)
    return Trend(None, kept, categories)


class TopicTrends:
    """The versions of the trend that the topic has."""

    def __init__(self, topic: str, bundle: Bundle) -> None:
        """Start without any. `topic`: its name. `bundle`: the one that is served."""
        self._topic = topic
        self._history = History(bundle.labels_version, len(bundle.categories))
        self._offsets: list[int] = []
        self._first: dict[bytes | None, int] = {}  # offset of the first record of each key

    def add(self, record: Record) -> None:
        """Take the next record of the topic."""
        self._history.add(record)
        self._offsets.append(record.offset)
        self._first.setdefault(record.key, record.offset)

    def version(self, version: int | None) -> Trend:
        """Return the trend of a version that an answer names; that of nothing for None.

        Raises:
            ReplayError: the topic has not, or no longer, all records that it was made of.
        """
        if version is not None and not self._has(version):
            raise ReplayError(
                f"the workers answered with version {version} of the trend, and topic {self._topic} no longer has what that version "
                "was made of, because it keeps replaced records for a day: run it without --check, or play again with another --out"
            )
        return self._history.at(version)

    def _has(self, version: int) -> bool:
        """Whether no record that counts is missing. Compaction removes a record only behind a later one of its key."""
        upto = bisect_right(self._offsets, version)
        if not upto or self._offsets[upto - 1] != version:
            return False
        complete = upto == version + 1
        return complete or all(first <= version for first in self._first.values())


class NamedTrends:
    """The trend of each event is the version that its answer names."""

    def __init__(self, topic: TopicTrends, versions: Mapping[int, int]) -> None:
        """Take the versions by the place of the event; none where the answer names none."""
        self._topic, self._versions = topic, versions

    def at(self, place: int, moment: int) -> Trend:
        """As `Trends.at`. Raises ReplayError for a version that is gone."""
        del moment
        return self._topic.version(self._versions.get(place))


async def read_topic_trends(settings: Settings, bundle: Bundle) -> TopicTrends:
    """Read `category-trend` up to its end.

    Raises:
        TastestreamError: the broker or the topic does not permit it.
    """
    name = settings.category_trend_topic
    found = TopicTrends(name, bundle)
    async with BoundedTopicReader(settings, name, "TASTESTREAM_CATEGORY_TREND_TOPIC") as topic:
        async for _, records in topic.everything():
            for record in records:
                found.add(record)
    return found
