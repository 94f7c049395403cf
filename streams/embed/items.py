"""Reads `items`, so that the picture of a new item is embedded before anybody has touched the item.

The embed workers share the partitions of the topic by a consumer group of their own. Events come first: other clients read them,
and an item is begun only while no event waits for a picture, or while no other item is in work. Whatever the topic or the broker
does, the worker goes on. An item that kills the worker becomes a dead letter (`streams.runtime.crash_journal`).

An item is read at least once, and features that exist are not made again. What cannot be used becomes a dead letter. Offsets are
committed in order, with the id of the topic, as those of events are (`streams.engine.consumer`).
"""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from typing_extensions import override

from streams import metrics
from streams.dead_letter import dead_letter
from streams.embed.embedding_cache import EmbeddingCache
from streams.embed.refusal import refusal
from streams.engine.in_flight import InFlightTracker, Pending
from streams.engine.interface import EngineApp
from streams.engine.publisher import Publisher
from streams.exceptions import EventError
from streams.item_messages import parse_item
from streams.kafka.following import CHECK, Following
from streams.kafka.metadata import DescribedTopic, marked_id
from streams.kafka.offsets import may_cancel_commits
from streams.kafka.records import Record, value_of
from streams.logs.place import found_event, working_on
from streams.runtime.crash_journal import CrashJournal
from streams.settings import Settings

logger = logging.getLogger(__name__)

IN_WORK = 16  # items at a time at most. An event that comes now waits for as many pictures.
SHARE = 8  # one item for so many of FETCH_CONNECTIONS: where a host hangs, its slots are left to events
HELD = 256  # items that are read and not committable yet: one may wait for a slow host
HELD_BYTES = 4 * 1024**2  # of these
FETCHED = 256 * 1024  # bytes of a partition in one response
WAIT = 1000  # milliseconds for one answer of the broker
FULL_WAIT = 0.1  # seconds until the next look whether there is room, or whether events still wait for pictures
COMMIT_TIMEOUT = 10.0  # seconds


def start_of(committed: OffsetAndMetadata | None, first: int, end: int, topic: DescribedTopic) -> int:
    """Where to read a partition.

    Args:
        committed: what the group has committed, of this topic or of one that had the same name before it.
        first: the first offset of the partition.
        end: its end.
        topic: as it is now.
    """
    if committed is None or committed.offset > end or marked_id(committed.metadata) not in {topic.id, ""}:
        return first
    return max(committed.offset, first)


class ItemReader(ConsumerRebalanceListener):
    """Embeds the items that come. Run it while the app of the worker runs, whose producer it uses."""

    def __init__(
        self, settings: Settings, embeddings: EmbeddingCache, publisher: Publisher, app: EngineApp, *, worker: str
    ) -> None:
        """Does not start yet.

        Args:
            settings: where the broker and the topic are.
            embeddings: makes and shares features.
            publisher: sends dead letters.
            app: reads events beside the items, and has the crash journal.
            worker: its name in dead letters and metrics.
        """
        self._settings = settings
        self._topic = settings.items_topic
        self._embeddings = embeddings
        self._publisher = publisher
        self._worker = worker
        self._events, self._journal = app.in_flight, app.crash_journal
        self._tracker = app.beside = InFlightTracker(HELD, HELD_BYTES)
        self._consumer: AIOKafkaConsumer | None = None
        self._described: DescribedTopic | None = None
        self._ends: dict[TopicPartition, int] = {}
        self._polling: asyncio.Future[dict[TopicPartition, list[Record]]] | None = None
        self._failed: asyncio.Future[None] | None = None
        self._assigned = asyncio.Event()  # there are partitions, and the consumer stands where it has to
        self._running: set[asyncio.Task[None]] = set()
        self._in_work = max(1, min(IN_WORK, settings.fetch_connections // SHARE))
        self._asking = 0  # items whose pictures are being made
        self._following = Following(
            settings,
            self._topic,
            problem="topic %s is not read, so pictures of new items are not embedded before the first event: %s; trying again",
            missing="`tastestream topics` creates it",
            logger=logger,
            group=settings.items_group,
        )

    async def run(self) -> None:
        """Read the topic until it is cancelled."""
        await self._following.run(self._read, lambda _: metrics.items_lag.set(-1), lambda _: FETCHED)

    async def _read(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        self._consumer, self._described = consumer, topic
        may_cancel_commits(consumer)
        self._failed = failed = asyncio.get_running_loop().create_future()
        consumer.subscribe([self._topic], listener=self)
        fetching, starting = (
            asyncio.create_task(self._fetch(client, consumer, topic)),
            asyncio.create_task(self._start()),
        )
        try:
            await asyncio.wait({fetching, starting, failed}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (failed, fetching, starting):
                if ended.done():
                    ended.result()
        finally:
            tasks = [fetching, starting, *self._running]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(KafkaError):
                await self._commit(consumer, topic)
            self._assigned.clear()
            self._tracker.forget()
            failed.cancel()

    # -- reading and committing

    async def _fetch(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        """Read into the tracker and commit, until the topic changes."""
        next_check, next_commit = monotonic() + CHECK, monotonic()
        while True:
            if monotonic() >= next_commit:
                await self._commit(consumer, topic)
                next_commit = monotonic() + self._settings.commit_interval
            if monotonic() >= next_check:
                if await self._following.has_changed(client, topic):
                    return
                next_check = monotonic() + CHECK
            await self._poll(consumer)

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Read what fits. A poll that a rebalance cancels has read nothing."""
        coordinator: Any = consumer._coordinator
        coordinator.check_errors()  # aiokafka raises it in a poll, and there is none without partitions
        try:
            async with asyncio.timeout(FULL_WAIT):
                await self._assigned.wait()
                rooms = await self._tracker.room()
        except TimeoutError:
            return
        if not rooms:
            return
        self._polling = polling = asyncio.ensure_future(
            consumer.getmany(*rooms, timeout_ms=WAIT, max_records=min(room.records for room in rooms.values()))
        )
        try:
            await asyncio.wait({polling})
            if polling.cancelled():
                return
            for tp, records in polling.result().items():
                self._tracker.put(tp, records)
            lag = 0
            for tp in self._tracker.positions:
                position, end = await consumer.position(tp), consumer.highwater(tp)
                self._tracker.advance(tp, position)
                lag += max((end or 0) - self._tracker.unfinished[tp], 0)
            metrics.items_lag.set(lag)
            self._following.reached()
        except IllegalStateError:  # no longer assigned
            return
        finally:
            polling.cancel()

    async def _commit(self, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        """Commit what is finished. Raises KafkaError if the broker refuses."""
        offsets = self._tracker.committable()
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                await consumer.commit({tp: OffsetAndMetadata(offset, topic.mark) for tp, offset in offsets.items()})
        except (TimeoutError, CommitFailedError, IllegalStateError) as error:
            logger.info("items are read again: their offsets could not be committed: %r", error)
            return
        self._tracker.committed(offsets)
        if self._journal is not None and self._journal.careful and not self._tracker.working:
            self._journal.release(self._topic, self._tracker.committed_offsets)

    @override
    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride] -- aiokafka awaits it
        self, revoked: set[TopicPartition]
    ) -> None:
        """Commit what is finished; the rest is read again, by this worker or another."""
        self._assigned.clear()
        await self._stop_polling()
        self._tracker.stop()
        if self._consumer is not None and self._described is not None:
            try:
                await self._commit(self._consumer, self._described)
            except KafkaError as error:
                logger.info("items are read again: their offsets could not be committed: %r", error)
        self._tracker.forget()

    @override
    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride] -- aiokafka awaits it
        self, assigned: set[TopicPartition]
    ) -> None:
        """Begin at the committed offsets, or at the start where there is none of this topic."""
        await self._stop_polling()
        try:
            positions = await self._positions(assigned)
            self._tracker.begin(positions)
            if self._journal is not None and self._described is not None:
                self._journal.begin(self._topic, positions, self._ends, self._tracker.share, self._described.id)
            if positions:
                self._assigned.set()
        except Exception as error:  # noqa: BLE001 -- aiokafka would only log it, and the partitions would stay unread
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)

    async def _stop_polling(self) -> None:
        """End a poll: it would swallow the first records after the seek."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})

    async def _positions(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        consumer, topic = self._consumer, self._described
        if consumer is None or topic is None or not partitions:
            return {}
        coordinator: Any = consumer._coordinator  # `committed` does not give what was committed beside the offset
        stored = await coordinator.fetch_committed_offsets(list(partitions))
        firsts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        self._ends = ends
        positions: dict[TopicPartition, int] = {}
        for tp in partitions:
            positions[tp] = start_of(stored.get(tp), firsts[tp], ends[tp], topic)
            consumer.seek(tp, positions[tp])
        return positions

    # -- working

    async def _start(self) -> None:
        """Begin items, one by one, whenever one may begin."""
        while True:
            await self._tracker.some()
            if not self._may_begin():
                if self._running:
                    await asyncio.wait(self._running, timeout=FULL_WAIT, return_when=asyncio.FIRST_COMPLETED)
                continue
            if self._journal is not None and self._journal.careful:
                await self._tracker.idle()
                async with self._events.alone():
                    if self._tracker.available:  # otherwise the partitions have moved meanwhile
                        await self._one_alone(self._journal)
                continue
            for pending in await self._tracker.take(1):
                task = asyncio.create_task(self._process(pending))
                self._running.add(task)
                task.add_done_callback(self._ended)

    async def _one_alone(self, journal: CrashJournal) -> None:
        """Process one item while the process does nothing else, so that a death can be counted for it."""
        [pending] = await self._tracker.take(1)
        record = pending.record
        pending.quarantined = journal.hold(TopicPartition(record.topic, record.partition), record.offset)
        await self._process(pending)
        journal.release(self._topic, self._tracker.committed_offsets)

    def _may_begin(self) -> bool:
        return not self._running or (len(self._running) < self._in_work and not self._events_wait())

    def _events_wait(self) -> bool:
        """Whether pictures are made that no item has asked for."""
        return self._embeddings.computing > self._asking

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _process(self, pending: Pending) -> None:
        record = pending.record
        working_on(record)
        outcome = await refusal(self._embedded(pending))
        if isinstance(outcome, EventError):
            letter = dead_letter(record, outcome, worker=self._worker, at=datetime.now(UTC))
            await self._publisher.send(self._settings.dlq_topic, letter.key, letter.value, headers=letter.headers)
            metrics.dead_letters.labels(self._worker, outcome.reason).inc()
        metrics.items.labels("refused" if isinstance(outcome, EventError) else outcome).inc()
        pending.finish()

    async def _embedded(self, pending: Pending) -> str:
        """Make the features of an item's picture. Returns what became of the item. Raises EventError and DeliveryError."""
        pending.check()
        _, item = parse_item(pending.record.key, value_of(pending.record))
        if item is None:
            return "removed"
        found_event("", item.image_url)
        if self._embeddings.cached(item.image_url):
            return "known"
        self._asking += 1
        try:
            await self._embeddings.codes(item.image_url, self._events_wait)
        finally:
            self._asking -= 1
        return "embedded"
