"""Faust's consumer, with its own reading and committing.

Faust's reading may leave records out (at a rebalance it drops what it has fetched, and goes on behind it where the position
was not reset), and its committing counts every hole in the offsets as done. So here records go from aiokafka straight into
the `InFlightTracker`, a reading begins with an explicit seek of each partition and ends with the revocation, and what is committed
is what the tracker says.

aiokafka's client lives in a thread of its own, so that heartbeats do not wait for the work. Only `_in_thread` crosses over.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.logging import get_logger

from streams.engine.fetch_pacing import pace_fetches
from streams.engine.interface import EngineApp
from streams.exceptions import DeliveryError
from streams.kafka.records import Record
from streams.runtime.process import end_at_once

logger = get_logger(__name__)

T = TypeVar("T")

POLL = 1.0  # seconds that a poll waits for records, and so the time after which it notices that it should end
POLL_BESIDE_FULL = 0.02  # the same while the tracker has no room for some partitions, which may have some at any moment

# Seconds that the broker may hold back an answer while there is nothing for the partitions that were asked for. aiokafka has
# one such question to a broker at a time: until it is answered, no other partition's next records can be asked for.
FETCH_WAIT = 0.05


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's, whose client would leave a partition's backlog alone for 1.5 s while the other partitions have none.

    And which would ask for the next records the moment it has some: under load, ever so often for a few.
    """

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        client = super()._create_worker_consumer(transport)
        client._fetch_max_wait_ms = int(FETCH_WAIT * 1000)  # Faust has no setting for it; read when the client starts
        pace_fetches(client, self.app.poll_interval)
        return client


class Consumer(driver.Consumer):
    """Reads the topics that are not changelogs into the app's tracker."""

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reading = 0  # counts the assignments: what belongs to an earlier one is dropped
        self._polling: asyncio.Future[dict[TopicPartition, list[Record]]] | None = None  # in the consumer's thread

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- reading

    async def begin(self, reading: int) -> bool:
        """Read the assigned partitions, from their committed offsets on.

        reading: the value of `self.reading` when the caller set out; False, with nothing changed, when partitions have
            moved again since.
        """
        partitions = [tp for tp in self._assigned() if tp.topic not in self.app.tables.changelog_topics]
        try:
            positions = await self._in_thread(self._go_to_committed(partitions)) if partitions else {}
        except IllegalStateError:  # no longer assigned
            if reading == self.reading:
                raise
            return False
        if reading != self.reading:
            return False
        self.app.in_flight.begin(positions)
        self.resume_flow()
        return True

    async def _drain_messages(self, fetcher: Any) -> None:
        """What Faust's fetcher runs until it is stopped."""
        tracker = self.app.in_flight
        while not (self.should_stop or fetcher.should_stop):
            await self.can_resume_flow.wait()
            rooms = await tracker.room()
            timeout = POLL if len(rooms) == len(tracker.positions) else POLL_BESIDE_FULL
            reading = self.reading
            polled, positions = await self._in_thread(self._poll(reading, rooms, timeout))
            if reading == self.reading and self.flow_active:  # else the next reading seeks, and finds them again
                for tp, records in polled.items():
                    tracker.put(tp, records)
                for tp, position in positions.items():
                    tracker.advance(tp, position)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Before partitions move: finish what is being worked on, commit it, and forget the rest.

        Faust gives no part of the assignment up alone: all of it is revoked, and assigned anew.
        """
        self.reading += 1
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
                # What is in flight would reach the changelog after somebody else has read it.
                end_at_once(f"partitions move, and the work in hand is not done after {timeout:g} s")
        except DeliveryError as error:
            await self.app.crash(error)
        tracker.forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """The tables read their changelogs themselves, so this client need not."""
        changelogs = [tp for tp in self._assigned() if tp.topic in self.app.tables.changelog_topics]
        await self._in_thread(self._pause(changelogs))
        await super().on_partitions_assigned(assigned, generation_id)

    # -- committing

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is finished. True when the broker has it. Raises DeliveryError when it will not take it."""
        offsets = self.app.in_flight.committable()
        if not offsets or not await self._in_thread(self._commit_all(self.reading, offsets)):
            return False
        self.app.in_flight.committed(offsets)
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust would compare with its own bookkeeping. `streams.monitoring.watchdog` looks for stalls."""

    # -- what runs in the consumer's thread

    @property
    def thread_alive(self) -> bool:
        """Whether the thread runs, or has not been started yet."""
        thread = self._thread._thread
        return thread is None or thread.is_alive()

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread that aiokafka's client lives in."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop))

    @property
    def _client(self) -> AIOKafkaConsumer:
        return self._thread._ensure_consumer()

    async def _go_to_committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Go to the committed offsets, or to the start where there is none; gives the positions.

        A poll of an earlier reading that still waits would swallow the first records after the seek, so it ends before.
        """
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        positions: dict[TopicPartition, int] = {}
        ends = await self._client.end_offsets(list(partitions))
        for tp, end in ends.items():
            committed = await self._client.committed(tp)
            if committed is not None and committed > end:
                logger.warning(
                    "the group has committed %d of %s/%d, which ends at %d: another life of the topic, read from its start",
                    committed, tp.topic, tp.partition, end,
                )  # fmt: skip
            if committed is None or committed > end:
                await self._client.seek_to_beginning(tp)
                positions[tp] = await self._client.position(tp)
            else:
                self._client.seek(tp, committed)
                positions[tp] = committed
        return positions

    async def _poll(
        self, reading: int, rooms: Mapping[TopicPartition, int], timeout: float
    ) -> tuple[dict[TopicPartition, list[Record]], dict[TopicPartition, int]]:
        """What has arrived, of each partition as many records as there is room for, and how far it is read then.

        Without partitions it is for the group's errors only. timeout: seconds to wait while there is nothing.
        """
        if reading != self.reading:
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

    async def _records(self, rooms: Mapping[TopicPartition, int], timeout: float) -> dict[TopicPartition, list[Record]]:
        """aiokafka gives what it has of one partition before it turns to the next, so each is asked for its own."""
        client = self._client
        found: dict[TopicPartition, list[Record]] = {}
        for tp, room in rooms.items():
            found |= await client.getmany(tp, max_records=room)
        if found:
            return found
        smallest = min(rooms.values(), default=None)
        return await client.getmany(*rooms, timeout_ms=int(timeout * 1000), max_records=smallest)

    async def _pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._client.pause(*partitions)

    async def _commit_all(self, reading: int, offsets: Mapping[TopicPartition, int]) -> bool:
        if reading != self.reading:
            return False
        try:
            await self._client.commit({tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()})
        except (CommitFailedError, IllegalStateError) as error:
            logger.info("not committed, and delivered again: %s", error)  # the partitions have moved
            return False
        except KafkaError as error:
            raise DeliveryError(f"offsets could not be committed: {error!r}") from error
        return True

    def _assigned(self) -> set[TopicPartition]:
        return self._client.assignment()
