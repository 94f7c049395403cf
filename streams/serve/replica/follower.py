"""Follows the changelog of the bags into the store, in no consumer group. Commits nothing, and never writes to Kafka."""

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import TopicAuthorizationFailedError

from streams import metrics
from streams.exceptions import TopicsError
from streams.kafka.following import CHECK, share_of_response
from streams.kafka.metadata import DescribedTopic, topics_now
from streams.profile.following import following_bags
from streams.profile.spread import partitions_of_rows
from streams.serve.interface import State
from streams.serve.replica.store import HELD_KEY, SPREAD_KEY, ReplicaStore
from streams.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

POLL = 1000  # milliseconds
CHUNK = 100  # records of live partitions that are merged in one step: some milliseconds
GATHERED_CHUNK = 1000  # the same of partitions that are gathered
FAR_BEHIND = 50_000  # records of a partition; from there on it is gathered again
VERIFIED = 1.0  # seconds for which records count as those of the same topic without another look
SILENCE = 5.0  # seconds without an answer after which a partition is stale
NOTED = 10.0  # seconds between two notes of when everything was held
PROGRESS = 5.0  # seconds between two log lines


@dataclass
class _Progress:
    """How far one partition is. Times are seconds since the epoch."""

    offset: int = -1  # of the last record that the store holds
    end: int | None = None  # of the partition at the last answer
    answered: float = 0.0  # when the broker last answered
    held: float | None = None  # when everything was held last


class ChangelogFollower:
    """Reads the served partitions for as long as it runs.

    Attributes:
        known: set once the number of partitions of the bags is known.
        caught_up: set once the follower is `ready`.
    """

    def __init__(self, settings: Settings, store: ReplicaStore) -> None:
        """Does not start yet.

        Args:
            settings: where the broker is, and which partitions are served.
            store: where the records go.
        """
        self._settings = settings
        self._topic = settings.bags_changelog
        self._store = store
        self._progress: dict[int, _Progress] = {}
        self._following = following_bags(
            settings,
            problem="topic %s is not followed, and answers are those of the bags on disk: %s; trying again",
            logger=logger,
        )
        self._answering = False  # whether the topic is followed, as far as is known
        self._next_note = 0.0
        self._begun, self._gathered = 0.0, 0  # of what is gathered now: when it began, and its records so far
        self._next_log = 0.0
        self.known = asyncio.Event()
        self.caught_up = asyncio.Event()
        self.partitions = 0  # of the bags; 0 while it is not known

    # -- what it knows

    @property
    def ready(self) -> bool:
        """Whether each served partition was read to its end once."""
        return self.known.is_set() and all(one.held is not None for one in self._progress.values())

    def serves(self, partition: int) -> bool:
        """Whether a partition is among those that are followed."""
        return partition in self._progress

    def state(self, partition: int) -> State:
        """The state of a served partition now."""
        one, now = self._progress[partition], time()
        answers = self._answering and now - one.answered < SILENCE
        lag = max(one.end - one.offset - 1, 0) if answers and one.end is not None else None
        live = lag == 0 and self._store.is_live(partition)
        age = None if one.held is None else max(now - one.held, 0.0)
        return State(partition, one.offset, lag, age, "live" if live else "behind" if answers else "stale")

    def states(self) -> list[State]:
        """The states of all served partitions."""
        return [self.state(partition) for partition in sorted(self._progress)]

    @property
    def still(self) -> float:
        """Seconds since the reader came round (`Following.still`)."""
        return self._following.still

    # -- the partitions

    def open(self) -> None:
        """Open the databases of an earlier run, so that they answer before the broker does.

        Raises:
            TopicsError: SERVE_PARTITIONS names a partition that the bags do not have.
            StateError: RocksDB reports a failure.
        """
        number = 0
        for partition in self._store.on_disk():
            self._store.databases.open(partition)
            number = number or int(self._store.databases.row(partition, SPREAD_KEY) or 0)
        if not number:
            return
        database = self._store.databases
        for partition in self._use(number):
            one = self._served(partition)
            one.offset = database.open(partition)
            if held := database.row(partition, HELD_KEY):
                one.held = float(held)
                self._store.begin(partition, gather=False)
        self._is_ready()

    def _use(self, number: int) -> list[int]:
        """Serve bags that are spread over so many partitions. Returns those that are served. Raises TopicsError."""
        wanted = self._settings.serve_partitions or range(number)
        if beyond := [partition for partition in wanted if not 0 <= partition < number]:
            raise TopicsError(
                f"{PREFIX}SERVE_PARTITIONS names partition {beyond[0]}, but the bags are in the partitions 0 to {number - 1}"
            )
        served = sorted(set(wanted))
        for gone in {*self._store.on_disk(), *self._progress} - set(served):
            logger.info("partition %d is not served, so its bags are removed from this disk", gone)
            self._store.databases.drop(gone)
            if self._progress.pop(gone, None):
                metrics.replica_lag.remove(gone)
                metrics.replica_age.remove(gone)
        self.partitions = number
        for partition in served:
            self._served(partition)
        self.known.set()
        return served

    def _served(self, partition: int) -> _Progress:
        """The progress of a partition, which is shown in the metrics from now on."""
        if partition not in self._progress:
            self._progress[partition] = _Progress()
            metrics.replica_lag.labels(partition).set_function(lambda: _shown(self.state(partition).lag))
            metrics.replica_age.labels(partition).set_function(lambda: _shown(self.state(partition).age))
        return self._progress[partition]

    # -- following

    async def run(self) -> None:
        """Follow until it is cancelled.

        Raises:
            StartupError: a row has a format of a later version, or SERVE_PARTITIONS cannot be.
            StateError: RocksDB reports a failure.
        """
        try:
            await self._following.run(self._follow, self._stopped, share_of_response)
        finally:
            self._note_held()

    def _stopped(self, problem: str) -> None:
        self._answering = not problem

    async def _follow(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        served = await self._begin(client, consumer, topic)
        self._following.reached()
        self._answering = True
        verified = monotonic()
        next_check = verified + CHECK
        while True:
            live = all(map(self._store.is_live, self._progress))
            found = await consumer.getmany(timeout_ms=POLL, max_records=CHUNK if live else GATHERED_CHUNK)
            self._following.turn(consumer, found)
            if monotonic() >= next_check or (found and monotonic() >= verified + VERIFIED):
                if await self._following.has_changed(client, topic):
                    return
                verified = monotonic()
                next_check = verified + CHECK
            for tp, records in found.items():
                one = self._progress[tp.partition]
                if records[0].offset <= one.offset:
                    return  # another topic, or a shorter one: `_begin` decides
                one.offset = records[-1].offset
                self._store.take(tp.partition, records, one.offset)
                self._gathered += len(records)
            for tp in served:
                if not await self._note(consumer, tp):
                    return
            if monotonic() >= self._next_note:
                self._note_held()
            self._log()

    async def _begin(
        self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic
    ) -> Collection[TopicPartition]:
        """Start to read where the store ends. Returns the partitions."""
        number = await self._spread(client, topic)
        async with self._store.lock:
            served = [TopicPartition(self._topic, partition) for partition in self._use(number)]
            consumer.assign(served)
            starts, ends = await consumer.beginning_offsets(served), await consumer.end_offsets(served)
            # No `await` in here: nobody reads the bags of one topic beside those of another.
            for tp in served:
                offset = self._store.databases.open_for(tp.partition, self._topic, ends[tp], topic.id)
                one = self._served(tp.partition)
                one.offset, one.end, one.answered = offset, ends[tp], time()
                self._store.databases.write(tp.partition, {SPREAD_KEY: b"%d" % number})
                far = ends[tp] - offset > FAR_BEHIND
                self._store.begin(tp.partition, gather=far or not self._store.is_live(tp.partition))
                consumer.seek(tp, max(offset + 1, starts[tp]))
        self._begun = self._next_log = monotonic()
        self._gathered = 0
        return served

    async def _spread(self, client: AIOKafkaClient, topic: DescribedTopic) -> int:
        """The number of partitions of the bags."""
        stored = {self._store.databases.topic_id(partition) for partition in self._progress}
        if (
            self.partitions
            and topic.id
            and stored == {topic.id}
            and any(one.offset >= 0 for one in self._progress.values())
        ):
            return self.partitions
        usual = topic.partitions
        with suppress(TopicAuthorizationFailedError):  # the changelog alone tells, unless it is empty
            events = (await topics_now(client, [self._settings.embedded_topic])).get(self._settings.embedded_topic)
            usual = min(usual, events.partitions) if events else usual
        return await partitions_of_rows(self._settings, topic.partitions, usual=usual)

    async def _note(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> bool:
        """Note how far a partition is. False if the position went back: the consumer found another topic."""
        one = self._progress[tp.partition]
        position: int = await consumer.position(tp)
        if position <= one.offset:
            return False
        one.offset = (
            position - 1
        )  # records may be missing at the end: control records, or those that compaction removed
        polled: Any = consumer.last_poll_timestamp(tp)
        if polled:
            one.answered, one.end = polled / 1000, consumer.highwater(tp)
        if one.end is not None and position >= one.end:
            if not self._store.is_live(tp.partition):
                await self._checkpoint(tp.partition, one.offset, at_end=True)
                self._next_note = 0.0
            one.held = one.answered
            self._is_ready()
        elif self._store.due(tp.partition):
            await self._checkpoint(tp.partition, one.offset, at_end=False)
        return True

    async def _checkpoint(self, partition: int, offset: int, *, at_end: bool) -> None:
        with self._following.excused():
            await self._store.checkpoint(partition, offset, at_end=at_end)

    def _is_ready(self) -> None:
        if self.ready:
            self.caught_up.set()

    def _note_held(self) -> None:
        """Write down when everything was held, for a start without a broker."""
        self._next_note = monotonic() + NOTED
        for partition, one in self._progress.items():
            if one.held is not None and self._store.is_live(partition):
                self._store.databases.write(partition, {HELD_KEY: b"%f" % one.held}, one.offset)

    def _log(self) -> None:
        """Log the progress of what is gathered now, and then, and its end."""
        if not self._begun:
            return
        left = sum(state.lag or 0 for state in self.states())
        if all(map(self._store.is_live, self._progress)):
            logger.info(
                "the bags of the partitions %s are here: %d changelog records read in %.1f s",
                ", ".join(map(str, sorted(self._progress))), self._gathered, monotonic() - self._begun,
            )  # fmt: skip
            self._begun = 0.0
        elif monotonic() > self._next_log:
            self._next_log = monotonic() + PROGRESS
            logger.info("reading the bags: %d changelog records read, at most %d left", self._gathered, left)


def _shown(number: float | None) -> float:
    """A number in the metrics; -1 if it is unknown."""
    return -1.0 if number is None else number
