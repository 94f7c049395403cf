"""Faust's consumer with our own reading and committing.

Faust's consumer can skip records: at a rebalance it drops the records that it has fetched, and continues behind them if the
position was not reset. Its commits treat every gap in the offsets as processed. Here, records go from aiokafka straight into
the in-flight tracker, and the tracker decides what is committed.

Each assignment starts a *generation*. It begins with an explicit seek of every partition to its committed offset, and ends
when the partitions are revoked. Whatever belongs to an earlier generation is dropped and read again.

Each commit names the id of the topic that was read (`streams.kafka.metadata`). A topic that was deleted and created again
has another id, and is read from its start: the committed offsets are those of the topic before it. In front of the id may be a
remark of the worker (`streams.kafka.remarks`).

aiokafka's client runs in a thread of its own, so that heartbeats do not wait for the work. Only `_in_thread` crosses over.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from time import monotonic
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, OffsetMetadataTooLargeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.logging import get_logger
from typing_extensions import override

from streams.engine.assignor import round_robin
from streams.engine.fetch_pacing import limit_fetches, pace_fetches
from streams.engine.in_flight import Room, size_of
from streams.engine.interface import EngineApp
from streams.exceptions import DeliveryError
from streams.kafka.metadata import DescribedTopic, marked_id, topics_now
from streams.kafka.offsets import ISOLATION, high_watermarks, may_cancel_commits
from streams.kafka.records import Record
from streams.kafka.remarks import silent
from streams.runtime.process import end_at_once

logger = get_logger(__name__)

T = TypeVar("T")

POLL = 1.0  # seconds that a poll waits for records; also how long it takes to notice a stop
CHUNK = 16  # records that are asked for at a time: only afterwards their size is known
POLL_WHEN_FULL = 0.02  # seconds, while some partitions have no room: they may have room again at any moment

# Seconds that the broker may hold back a response while the requested partitions have no records. aiokafka has one fetch
# request per broker at a time: until it is answered, no other partition can be fetched.
FETCH_WAIT = 0.05

BROKER_PAUSE = 0.5  # seconds between two questions to a broker that does not answer

# Seconds that a commit may take. aiokafka tries without end to commit to a partition that no longer exists, and no later commit
# would begin.
COMMIT_TIMEOUT = 10.0


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with a shorter fetch wait, paced fetch requests, and committed records only.

    Faust's client also reads the records of open and aborted transactions, lets a partition's backlog wait 1.5 s while the
    other partitions are empty, and asks for the next records as soon as it has a few.
    """

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    @override
    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        client = super()._create_worker_consumer(transport)
        # Faust has no settings for these; the client reads them when it starts.
        client._isolation_level = ISOLATION
        if not self.app.tables.changelog_topics:
            client._partition_assignment_strategy = [round_robin(self.app.bundles, lambda: self.app.topics_generation)]
        client._fetch_max_wait_ms = int(FETCH_WAIT * 1000)
        pace_fetches(client, self.app.poll_interval)
        limit_fetches(client, self.app.intake_memory)
        return client

    @override
    async def on_start(self) -> None:
        await super().on_start()
        may_cancel_commits(self._ensure_consumer())


class Consumer(driver.Consumer):
    """Reads the app's topic into its in-flight tracker, and commits what the tracker allows. Leaves changelogs alone."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.generation = 0  # counts the revocations
        self.reading: DescribedTopic | None = None  # the topic as it was when reading began; None before that
        self.commits = 0  # how often everything finished was committed, or there was nothing to commit
        self._remark = ""  # that was committed last
        self._last_commit = monotonic()  # when `commits` grew last, or the consumer was made; seconds
        self._ends: Mapping[TopicPartition, int] = {}  # of the partitions, when the generation began
        self._polling: asyncio.Future[dict[TopicPartition, list[Record]]] | None = None  # in the consumer's thread

    @override
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @override
    async def on_task_error(self, exc: BaseException) -> None:
        """Crash the app when an agent fails. Faust would commit here, and then restart the agent past its batch."""
        await self.app.crash(exc)

    # -- reading

    async def begin(self, generation: int) -> bool:
        """Start reading the assigned partitions at their committed offsets.

        Args:
            generation: the value of `self.generation` when the caller started its work.

        Returns:
            False, with nothing changed, when partitions have moved since then.
        """
        await self.app.before_reading()
        topic = await self._in_thread(self._described())  # before the offsets: an older id only reads too much
        try:
            positions = {} if topic is None else await self._in_thread(self._start(topic))
        except IllegalStateError:  # no longer assigned
            if generation == self.generation:
                raise
            return False
        if generation != self.generation:
            return False
        self.app.in_flight.begin(positions)
        if self.app.crash_journal is not None:
            topic_id = self.reading.id if self.reading else ""
            self.app.crash_journal.begin(self.app.reads, positions, self._ends, self.app.in_flight.share, topic_id)
        self.resume_flow()
        return True

    @override
    async def _drain_messages(self, fetcher: Any) -> None:
        """Read until Faust's fetcher stops.

        Returns when it is cancelled then: amid a rebalance, Faust would take that for a crash of the fetcher.
        """
        try:
            await self._drain(fetcher)
        except asyncio.CancelledError:
            if not fetcher.should_stop:
                raise

    async def _drain(self, fetcher: Any) -> None:
        tracker = self.app.in_flight
        while not (self.should_stop or fetcher.should_stop):
            await self.can_resume_flow.wait()
            rooms = await tracker.room()
            timeout = POLL if len(rooms) == len(tracker.positions) else POLL_WHEN_FULL
            generation = self.generation
            polled, positions = await self._in_thread(self._poll(generation, rooms, timeout))
            if generation == self.generation and self.flow_active:  # otherwise the next generation reads them again
                for tp, records in polled.items():
                    tracker.put(tp, records)
                for tp, position in positions.items():
                    tracker.advance(tp, position)

    @override
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Before partitions move: finish the current work, commit it, and forget the rest.

        Faust never gives up only a part of its assignment: all partitions are revoked, and assigned anew.
        """
        self.generation += 1
        self.stop_flow()
        tracker = self.app.in_flight
        tracker.stop()
        timeout = self.app.conf.broker_session_timeout / 2
        try:
            async with asyncio.timeout(timeout):
                if self.app.finish_before_revocation:
                    await tracker.idle()
                await self.force_commit()
        except TimeoutError:
            if self.app.finish_before_revocation:
                # Work still in flight would reach the changelog after the new owner has read it.
                end_at_once(f"partitions are moving, and the current work did not finish within {timeout:g} s")
        except DeliveryError as error:
            await self.app.crash(error)
        tracker.forget()
        await super().on_partitions_revoked(revoked)

    @override
    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause the changelogs: the tables read them with clients of their own."""
        changelogs = [tp for tp in self._assigned() if tp.topic in self.app.tables.changelog_topics]
        await self._in_thread(self._pause(changelogs))
        await super().on_partitions_assigned(assigned, generation_id)

    async def reopen(self) -> None:
        """Have the partitions assigned anew, so that a generation begins on the topic as it is now."""
        await self._in_thread(self._rejoin())

    def unread(self) -> set[TopicPartition]:
        """Assigned partitions of the topic that are not read: the broker did not name them when the generation began."""
        return {tp for tp in self._assigned() if tp.topic == self.app.reads} - self.app.in_flight.positions.keys()

    @property
    def known_partitions(self) -> int:
        """How many partitions of the topic aiokafka's client knows. It refreshes that in short intervals."""
        return len(self._client.partitions_for_topic(self.app.reads) or ())

    async def held_back(self) -> int:
        """Number of records that are read only when the transaction before them commits or aborts."""
        return await self._in_thread(self._held_back())

    # -- committing

    @override
    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the finished offsets.

        Returns:
            True when the broker has stored them; False when there was nothing to commit, partitions have moved, or the broker
            did not answer in time.

        Raises:
            DeliveryError: the broker refused the commit.
        """
        tracker, remark = self.app.in_flight, self.app.remark()
        offsets = tracker.committable() if remark == self._remark else tracker.unfinished
        if offsets and not await self._in_thread(self._commit_all(self.generation, offsets, remark)):
            return False
        tracker.committed(offsets)
        self._remark = remark
        self.commits += 1
        self._last_commit = monotonic()
        return bool(offsets)

    @property
    def commit_age(self) -> float:
        """Seconds since everything finished was committed, or there was nothing to commit."""
        return monotonic() - self._last_commit

    @override
    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust would compare with its own bookkeeping. `streams.monitoring.watchdog` looks for stalls."""

    # -- what runs in the consumer's thread

    @property
    def thread_alive(self) -> bool:
        """Whether the thread runs, or has not been started yet."""
        thread = self._thread._thread
        return thread is None or thread.is_alive()

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread of aiokafka's client."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop))

    @property
    def _client(self) -> AIOKafkaConsumer:
        return self._thread._ensure_consumer()

    @property
    def _coordinator(self) -> Any:
        return self._client._coordinator

    async def _described(self) -> DescribedTopic | None:
        """The topic as it is now, or None if there is none. Waits for a broker that does not answer."""
        while True:
            try:
                return (await topics_now(self._client._client, [self.app.reads])).get(self.app.reads)
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(BROKER_PAUSE)

    async def _rejoin(self) -> None:
        await self._client._client.force_metadata_update()
        self._coordinator.request_rejoin()

    async def _start(self, topic: DescribedTopic) -> dict[TopicPartition, int]:
        """Start to read the topic, with an equal share of the memory for each partition. Returns the positions."""
        limit_fetches(self._client, self.app.intake_memory, sum(tp.topic == self.app.reads for tp in self._assigned()))
        return await self._seek_to_committed(topic)

    async def _seek_to_committed(self, topic: DescribedTopic) -> dict[TopicPartition, int]:
        """Seek to the committed offsets, or to the start where there is none of this topic. Returns the positions.

        A poll of an earlier generation that still waits would swallow the first records after the seek, so it is cancelled first.
        """
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        partitions = [tp for tp in self._assigned() if tp.topic == self.app.reads and tp.partition < topic.partitions]
        self._ends = ends = await self._client.end_offsets(partitions) if partitions else {}
        stored = await self._coordinator.fetch_committed_offsets(partitions)
        offsets = self._of_topic(topic, stored)
        if beyond := [tp for tp, committed in offsets.items() if committed > ends[tp]]:
            # An earlier reader may have committed records of a transaction that is still open.
            ends |= await high_watermarks(self.app.kafka, beyond)
        positions: dict[TopicPartition, int] = {}
        for tp, end in ends.items():
            committed = offsets.get(tp)
            if committed is not None and committed > end:
                logger.warning(
                    "%s/%d ends at %d, but the group has committed %d: the topic was re-created; reading from its start",
                    tp.topic, tp.partition, end, committed,
                )  # fmt: skip
            if committed is None or committed > end:
                await self._client.seek_to_beginning(tp)
                positions[tp] = await self._client.position(tp)
            else:
                self._client.seek(tp, committed)
                positions[tp] = committed
        self.reading = topic
        await self._commit_all(
            self.generation, {tp: positions[tp] for tp, found in stored.items() if found.metadata != topic.mark}
        )
        return positions

    def _of_topic(
        self, topic: DescribedTopic, committed: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> dict[TopicPartition, int]:
        """The committed offsets that are of this topic, and not of one that had the same name before it."""
        replaced = self.reading is not None and self.reading.is_another(topic)
        named = {tp: marked_id(found.metadata) for tp, found in committed.items()}
        # An earlier version committed no id. Its offset counts, unless this worker has seen the topic before.
        own = {tp for tp, number in named.items() if number == topic.id or not (replaced or (number and topic.id))}
        if replaced or len(own) < len(committed):
            logger.warning("topic %s was deleted and created again; reading it from its start", self.app.reads)
        return {tp: committed[tp].offset for tp in own}

    async def _poll(
        self, generation: int, rooms: Mapping[TopicPartition, Room], timeout: float
    ) -> tuple[dict[TopicPartition, list[Record]], dict[TopicPartition, int]]:
        """Fetch records, of each partition at most as many as there is room for.

        Without partitions the poll still notices errors of the group.

        Args:
            generation: of the caller; nothing is fetched for an earlier one.
            rooms: how much to fetch at most, by partition.
            timeout: seconds to wait while there are none.

        Returns:
            The records, and the position of each partition after them.
        """
        if generation != self.generation:
            return {}, {}
        polling = self._polling = asyncio.ensure_future(self._records(rooms, timeout))
        try:
            await asyncio.wait({polling})
            if polling.cancelled():
                return {}, {}
            polled = polling.result()
            return polled, {tp: await self._client.position(tp) for tp in rooms}
        except IllegalStateError:  # no longer assigned
            return {}, {}
        finally:
            polling.cancel()

    async def _records(
        self, rooms: Mapping[TopicPartition, Room], timeout: float
    ) -> dict[TopicPartition, list[Record]]:
        """Ask for each partition by itself: aiokafka drains one partition before it turns to the next.

        It counts records and not bytes, and a small compressed batch may hold many large records.
        """
        client = self._client
        found: dict[TopicPartition, list[Record]] = {}
        left = sum(room.size for room in rooms.values())  # bytes
        for tp, room in rooms.items():
            records: list[Record] = []
            size = 0
            while min(left, room.size - size) > 0 and (wanted := min(CHUNK, room.records - len(records))) > 0:
                chunk = (await client.getmany(tp, max_records=wanted)).get(tp, [])
                records += chunk
                chunk_size = sum(map(size_of, chunk))
                size, left = size + chunk_size, left - chunk_size
                if len(chunk) < wanted:
                    break
            if records:
                found[tp] = records
        if found:
            return found
        smallest = min((room.records for room in rooms.values()), default=CHUNK)
        return await client.getmany(*rooms, timeout_ms=int(timeout * 1000), max_records=min(CHUNK, smallest))

    async def _held_back(self) -> int:
        client, held = self._client, 0
        for tp in self.app.in_flight.positions.keys() & self._assigned():
            stable, end = client.last_stable_offset(tp), client.highwater(tp)  # None before the first fetch
            held += end - stable if stable is not None and stable >= 0 and end is not None else 0
        return held

    async def _pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._client.pause(*partitions)

    async def _commit_all(self, generation: int, offsets: Mapping[TopicPartition, int], remark: str = "") -> bool:
        if generation != self.generation:
            return False
        mark = remark + (self.reading.mark if self.reading else "")
        known = range(self.known_partitions)
        marked = {tp: OffsetAndMetadata(offset, mark) for tp, offset in offsets.items() if tp.partition in known}
        if not marked:
            return False  # the topic was deleted
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                await self._client.commit(marked)
        except TimeoutError:
            return False
        except (CommitFailedError, IllegalStateError) as error:
            logger.info("partitions have moved; uncommitted events will be delivered again: %s", error)
            return False
        except KafkaError as error:
            if remark and isinstance(error, OffsetMetadataTooLargeError):
                logger.warning(
                    "the brokers permit no remark beside offsets (offset.metadata.max.bytes): this worker makes none"
                )
                self.app.remark = silent
                return await self._commit_all(generation, offsets)
            raise DeliveryError(f"offsets could not be committed: {error!r}") from error
        return generation == self.generation

    def _assigned(self) -> set[TopicPartition]:
        return self._client.assignment()
