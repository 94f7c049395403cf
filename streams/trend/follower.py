"""Follows `category-trend`, so that a worker has the trend of all partitions. In no consumer group, and commits nothing.

Whatever the topic or the broker does, the worker goes on with the trend that it has.
"""

import asyncio
import logging
from pathlib import Path
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from streams import metrics
from streams.kafka.following import CHECK, FETCHED, WAIT, Complaints, Following
from streams.kafka.metadata import DescribedTopic
from streams.kafka.records import Record
from streams.settings import Settings
from streams.trend.history import Latest
from streams.trend.kept import KeptTrend, read_kept, write_kept
from streams.trend.trend import Trend, no_trend

logger = logging.getLogger(__name__)

KEEP = 5.0  # seconds between two writes of the file


class TrendFollower:
    """The trend as the topic has it.

    Attributes:
        current: the trend, and the labels version that it counts by. It is replaced as one, so that another thread may read it.
        latest: the latest snapshots.
        lives: how many topics were followed: one that was deleted and created again is another.
        following: whether the topic was read to its end, and is read on.
        caught_up: set once the topic was read to the end that it had, in this run or the one that left the file, or cannot be read.
    """

    def __init__(
        self, settings: Settings, partitions: int, labels: str, categories: int, *, file: Path | None = None
    ) -> None:
        """Does not start yet.

        Args:
            settings: where the broker and the topic are.
            partitions: number of partitions of the bags.
            labels: the labels version of the bundle.
            categories: D.
            file: keeps the trend for the next start; None: the topic is read first.
        """
        self._settings = settings
        self._topic = settings.category_trend_topic
        self._partitions = partitions
        self._labels, self._categories = labels, categories
        self.latest = Latest(partitions)
        self.lives = 0
        self.following = False
        self.caught_up = asyncio.Event()
        self._known: DescribedTopic | None = None  # the topic that `latest` is of
        self._following = Following(
            settings,
            self._topic,
            problem="topic %s is not followed, and the trend stays as it is: %s; trying again",
            missing="`tastestream topics` creates it",
            logger=logger,
        )
        self._complaints = Complaints(self._topic, logger)
        self._file, self._next_keep = file, 0.0
        self._kept: int | None = None  # the version in the file
        if file is not None and (kept := read_kept(file)) is not None:
            self._known, self._kept = DescribedTopic(1, kept.topic_id), kept.version
            self.latest.snapshots, self.latest.offsets = kept.snapshots, kept.offsets
            self.latest.version = kept.version
            self.caught_up.set()
        self.current = labels, self.latest.trend(labels, categories)

    def use(self, labels: str, categories: int) -> None:
        """Sum up by the labels of another bundle from now on."""
        self._labels, self._categories = labels, categories
        self.current = labels, self.latest.trend(labels, categories)

    def trend(self, labels: str, categories: int) -> Trend:
        """What is wanted now, as a bundle with these labels counts it. Any thread may ask.

        A trend of nothing for a bundle without labels, and for one that another has just replaced.
        """
        counted, trend = self.current
        return trend if counted == labels and trend.categories == categories else no_trend(categories)

    @property
    def still(self) -> float:
        """Seconds since the reader came round (`Following.still`)."""
        return self._following.still

    async def run(self) -> None:
        """Follow the topic until it is cancelled."""
        await self._following.run(self._read, self._stopped, lambda _: FETCHED)

    def _stopped(self, problem: str) -> None:
        self.following = False
        metrics.trend_lag.set(-1)
        if problem:
            self.caught_up.set()

    async def _read(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        tp = TopicPartition(self._topic, 0)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        self._begin(topic, end)
        [start] = (await consumer.beginning_offsets([tp])).values()
        consumer.seek(tp, max(self._read_to + 1, start))
        self._following.reached()
        next_check = monotonic() + CHECK
        while True:
            position = await consumer.position(tp)
            if position <= self._read_to:
                return  # it was truncated, or created again: `_begin` starts over
            stable = consumer.last_stable_offset(tp)
            end = max(end, stable if stable is not None else -1)
            metrics.trend_lag.set(max(end - position, 0))
            if position >= end:
                self.following = True
                self.caught_up.set()
            if monotonic() >= next_check:
                if await self._following.has_changed(client, topic):
                    return
                next_check = monotonic() + CHECK
            records = (await consumer.getmany(tp, timeout_ms=WAIT)).get(tp, [])
            self._following.turn(consumer, records)
            self._take(records)
            if self._file is not None and self.following:  # else the file would have a part of the trend
                await self._keep(self._file, topic)

    @property
    def _read_to(self) -> int:
        """The offset of the last record; -1 before the first."""
        return -1 if self.latest.version is None else self.latest.version

    def _begin(self, topic: DescribedTopic, end: int) -> None:
        """Go on with the snapshots of this topic; start over if they are of another one, whose end was elsewhere."""
        known, self._known = self._known, topic
        ahead = self._read_to >= end
        if known is not None and (ahead or topic.is_another(known)):
            logger.warning("topic %s was deleted and created again; reading it from its start", self._topic)
            self.latest = Latest(self._partitions)  # the trend stays in force until snapshots come
            self.lives += 1

    async def _keep(self, file: Path, topic: DescribedTopic) -> None:
        """Write the trend to the file, now and then. A disk that fails costs nothing but a trend at the next start."""
        latest, version = self.latest, self.latest.version
        if version is None or version == self._kept or monotonic() < self._next_keep:
            return
        self._next_keep = monotonic() + KEEP
        kept = KeptTrend(topic.id, version, dict(latest.offsets), dict(latest.snapshots))
        try:
            await asyncio.to_thread(write_kept, file, kept)
            self._kept = version
        except OSError as error:
            logger.warning("%s cannot be written, and the next start has to read the topic first: %s", file, error)

    def _take(self, records: list[Record]) -> None:
        """Sum up what the records bring, and log those that cannot be used, now and then."""
        if not records:
            return
        problems = self.latest.apply(records)
        self.current = self._labels, self.latest.trend(self._labels, self._categories)
        metrics.trend_written.set(records[-1].timestamp / 1000)
        metrics.trend_refused.inc(len(problems))
        self._complaints.add(len(problems), problems[0] if problems else "")
        self._complaints.tell()
