"""Follows `picture-features` in the background: what other workers made of pictures comes into the cache of this one.

It has a thread and connections of its own, is in no consumer group, and commits nothing. Whatever the topic or the broker does,
the worker goes on: without the features of others it fetches pictures itself.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import Protocol, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from streams import metrics
from streams.features.position import Position, read_position, write_position
from streams.features.taking import Own, Rules, take
from streams.kafka.following import CHECK, PAUSE, WAIT, Complaints, Following, share_of_response
from streams.kafka.metadata import DescribedTopic
from streams.kafka.records import Record
from streams.settings import Settings

logger = logging.getLogger(__name__)

LEAST_BYTES, LEAST_WAIT = 32 * 1024, 0.25  # of one response, and seconds after which the broker answers with less
CHUNK = 64  # records that are asked for at a time: only afterwards their size is known
BATCH = 2 * 1024**2  # bytes that are written to the cache in one step
SAVE = 1.0  # seconds between two notes of the position; after a kill, as much is read again
STOP = 5.0  # seconds that a stop waits for the thread, which may wait for a broker that is away


class Cache(Protocol):
    """Where the features go: the disk cache of the embed worker."""

    max_age: float
    max_bytes: int

    @property
    def identity(self) -> str: ...

    def write(self, changes: Mapping[bytes, bytes | None]) -> bool: ...


class Follower:
    """Reads the topic from where it was left, for as long as it is open."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache,
        row_bytes: Mapping[str, int],
        position: Path,
        *,
        own: Own,
    ) -> None:
        """Does not start yet.

        Args:
            settings: where the broker and the topic are.
            cache: where the features go.
            row_bytes: the versions of features that are kept, and the length of a row of each.
            position: the file that says how far the topic has been read.
            own: what this process publishes.
        """
        self._settings = settings
        self._topic = settings.features_topic
        self._cache = cache
        self._rules = Rules(row_bytes, cache.max_age, own)
        self._path = position
        self._position = Position()
        self._forgotten: Callable[[str], object] = lambda _: None
        self._progressed: Callable[[], object] = lambda: None
        self._thread: threading.Thread | None = None
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()  # what the thread runs
        self._caller: asyncio.AbstractEventLoop | None = None
        self._following = Following(
            settings,
            self._topic,
            problem="topic %s is not followed, so this worker fetches pictures that others have: %s; trying again",
            missing="the next start of a worker creates it",
            logger=logger,
            least_bytes=LEAST_BYTES,
            wait=LEAST_WAIT,
        )
        self._next_save = 0.0
        self._unsaved = ""  # why the position could not be written
        self._complaints = Complaints(self._topic, logger)
        self.caught_up = (
            asyncio.Event()
        )  # set in the caller's loop: the topic was read to its end once, or cannot be read

    def start(self, forgotten: Callable[[str], object], progressed: Callable[[], object]) -> None:
        """Start to follow. Call it in the event loop of the worker.

        Args:
            forgotten: called in that loop with the URL of each picture whose features are to be forgotten.
            progressed: called there while the topic is read.
        """
        self._forgotten, self._progressed = forgotten, progressed
        self._caller = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._in_thread, name="follow-features", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop, and note the position."""
        if self._thread is not None:
            loop, work = await asyncio.wrap_future(self._running)
            loop.call_soon_threadsafe(work.cancel)
            await asyncio.to_thread(self._thread.join, STOP)

    def _in_thread(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop of the worker, unless that has ended."""
        if self._caller is not None and not self._caller.is_closed():
            self._caller.call_soon_threadsafe(function, *arguments)

    async def _run(self) -> None:
        self._running.set_result((asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())))
        self._position = read_position(self._path)
        try:
            await self._following.run(self._read, self._stopped, share_of_response)
        finally:
            self._save()

    def _stopped(self, problem: str) -> None:
        metrics.features_lag.set(-1)
        if problem:
            self._call(self.caught_up.set)

    async def _read(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        ends = await self._begin(consumer, topic)
        self._following.reached()
        next_check = monotonic() + CHECK
        while True:
            records, more = await self._next(consumer)
            self._following.turn(consumer, records)
            await self._take(records)
            self._complaints.tell()
            positions = {tp: await consumer.position(tp) for tp in ends}
            if any(offset < self._position.start(tp.partition) for tp, offset in positions.items()):
                logger.warning("topic %s was deleted and created again; reading it from its start", self._topic)
                self._position = Position()
                return
            self._position = self._position.at({tp.partition: offset for tp, offset in positions.items()})
            for tp in ends:
                stable = consumer.last_stable_offset(tp)
                ends[tp] = max(ends[tp], stable if stable is not None else -1)
            lag = sum(max(end - positions[tp], 0) for tp, end in ends.items())
            metrics.features_lag.set(lag)
            if lag == 0 and not self.caught_up.is_set():
                self._call(self.caught_up.set)
            if monotonic() >= self._next_save:
                self._save()
            if more:
                self._call(self._progressed)
            if monotonic() >= next_check:
                if await self._following.has_changed(client, topic):
                    return
                next_check = monotonic() + CHECK

    async def _begin(self, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> dict[TopicPartition, int]:
        """Start to read all partitions where they were left. Returns their ends."""
        partitions = [TopicPartition(self._topic, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        firsts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        cache = f"{self._cache.identity}/{self._cache.max_bytes}"
        versions = list(self._rules.row_bytes)
        known, self._position = self._position, self._position.of(topic.id, cache, versions)
        if any(self._position.start(tp.partition) > end for tp, end in ends.items()):  # a broker without ids says it so
            self._position = Position().of(topic.id, cache, versions)
        if known.topic_id and topic.id and known.topic_id != topic.id:
            logger.warning("topic %s was deleted and created again; reading it from its start", self._topic)
        for tp in partitions:
            consumer.seek(tp, max(self._position.start(tp.partition), firsts[tp]))
        return ends

    async def _next(self, consumer: AIOKafkaConsumer) -> tuple[list[Record], bool]:
        """The next records, about `BATCH` bytes at most, and whether there are any."""
        records: list[Record] = []
        size, timeout = 0, WAIT
        while size < BATCH:
            found = await consumer.getmany(timeout_ms=timeout, max_records=CHUNK)
            if not found:
                break
            for some in found.values():
                records += some
                size += sum(len(one.key or b"") + len(one.value or b"") for one in some)
            timeout = 0
        return records, bool(records)

    async def _take(self, records: list[Record]) -> None:
        """Write records to the cache, and wait until it takes them."""
        if not records:
            return
        taken = take(records, self._rules, self._position.offsets, time())
        self._complaints.add(taken.counts["refused"], taken.problem)
        while taken.changes and not self._cache.write(taken.changes):
            self._call(self.caught_up.set)  # nobody should wait for a full disk
            await asyncio.sleep(PAUSE)
        for url in taken.forgotten:
            self._call(self._forgotten, url)
        for what, count in taken.counts.items():
            metrics.features_followed.labels(what).inc(count)

    def _save(self) -> None:
        self._next_save = monotonic() + SAVE
        if not self._position.cache:
            return  # nothing was read
        try:
            write_position(self._path, self._position)
        except OSError as error:
            problem = f"{self._path} cannot be written: {error.strerror}"
            if problem != self._unsaved:
                logger.warning("%s; the features of pictures are read again after a restart", problem)
            self._unsaved = problem
        else:
            self._unsaved = ""
