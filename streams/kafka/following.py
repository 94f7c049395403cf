"""Follows a topic for as long as a worker runs. Without a consumer group, unless the reader names one and commits by itself.

Whatever the topic or the broker does, it is tried again, and the worker goes on meanwhile. What keeps the topic from being followed
is logged once. An attempt has a limited time to connect and to disconnect, and a reader that gets no answer connects again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sized
from contextlib import contextmanager
from time import monotonic

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from streams.exceptions import BrokerUnreachable, StartupError, StateError
from streams.kafka.metadata import DescribedTopic, connection_broke, topics_now
from streams.kafka.offsets import ISOLATION
from streams.kafka.reading import read_past_damage
from streams.settings import Settings

FETCHED = 8 * 1024**2  # bytes in one response
WAIT = 1000  # milliseconds for one answer of the broker
CHECK = 10.0  # seconds between two looks at the topic: it may have been deleted, created again, or given partitions
PAUSE = 5.0  # seconds until the next attempt after a failure
CONNECTING, BEGINNING, DISCONNECTING = (
    60.0,
    600.0,
    10.0,
)  # seconds until an attempt is connected, reads, and is disconnected
SILENCE = 15.0  # seconds of turns without an answer of the broker after which the reader connects again
LEAST_FETCH, LARGEST_FETCH = 64 * 1024, 1024**2  # bytes of a partition in one response


class NoAnswer(KafkaError):
    """The consumer lives, and the broker does not answer it."""


Read = Callable[[AIOKafkaClient, AIOKafkaConsumer, DescribedTopic], Awaitable[None]]
"""Reads the topic as it is, by a consumer that has no partitions yet, and returns when it has changed."""


def share_of_response(partitions: int) -> int:
    """Bytes of each partition in one response, by their number: together they fit into `FETCHED`, if there are not too many."""
    return min(max(FETCHED // max(partitions, 1), LEAST_FETCH), LARGEST_FETCH)


class Complaints:
    """Logs what cannot be used of a topic: how much it is, and the first of it, now and then."""

    def __init__(self, topic: str, logger: logging.Logger) -> None:
        """Nothing to complain of yet. `logger`: of the module that follows the topic."""
        self._topic = topic
        self._logger = logger
        self._count, self._first = 0, ""  # since the last line
        self._next = 0.0

    def add(self, count: int, first: str) -> None:
        """So many more records cannot be used. `first`: what is wrong with the first of them."""
        if count:
            self._count += count
            self._first = self._first or first

    def tell(self) -> None:
        """Log what there is, unless the last line is younger than `CHECK` seconds."""
        if self._count and monotonic() >= self._next:
            self._next = monotonic() + CHECK
            self._logger.warning(
                "passed over %d records of topic %s that cannot be used; the first: %s",
                self._count, self._topic, self._first,
            )  # fmt: skip
            self._count, self._first = 0, ""


class Following:
    """Reads one topic again and again."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *,
        problem: str,
        missing: str,
        logger: logging.Logger,
        group: str | None = None,
        isolation: str = ISOLATION,
        least_bytes: int = 1,
        wait: float = WAIT / 1000,
        pause: float = PAUSE,
    ) -> None:
        """Does not start yet.

        Args:
            settings: where the broker is.
            topic: its name.
            problem: the log line while the topic is not followed, with a place for its name and one for the reason.
            missing: who creates the topic, if it does not exist.
            logger: of the module that follows.
            group: the consumer group that shares the partitions; None to read all of them.
            isolation: which records are read.
            least_bytes: that the broker waits for before it answers. More than 1 saves requests where records come one by one.
            wait: seconds that the broker may hold back a response while there are no records, or fewer bytes. Until then, a
                partition that was not part of the request waits: keep it short for a topic of several partitions.
            pause: seconds until the next attempt after a failure.
        """
        self._settings = settings
        self._topic = topic
        self._problem = problem
        self._missing = missing
        self._logger = logger
        self._group = group
        self._isolation = isolation
        self._least_bytes = least_bytes
        self._wait = wait
        self._pause = pause
        self._told = ""  # the problem that was logged last
        self._moved: float | None = (
            None  # when the last turn of the reader ended; None: it does not read, or is excused
        )
        self._answered, self._silent_since = 0, 0.0  # time of the last answer, and since when there is none
        self._limit: asyncio.Timeout | None = None  # until the reader reads

    @property
    def still(self) -> float:
        """Seconds since the reader came round. More than some is a defect, or a disk that hangs.

        0 while it connects or asks what the topic is: that has a limited time, and an outage is no defect.
        """
        return 0.0 if self._moved is None else monotonic() - self._moved

    async def run(self, read: Read, stopped: Callable[[str], object], partition_bytes: Callable[[int], int]) -> None:
        """Follow the topic until it is cancelled.

        Args:
            read: reads it.
            stopped: called each time that it is no longer read, with the problem; "" if the topic changed.
            partition_bytes: bytes of a partition in one response, by the number of partitions.

        Raises:
            StartupError: `read` found that a restart would not help.
            StateError: `read` could not use its disk.
        """
        read_past_damage(self._settings.max_batch_bytes)
        while True:
            try:
                problem = await self._once(read, partition_bytes)
            except (StartupError, StateError):
                raise
            except asyncio.CancelledError:
                if not connection_broke():
                    raise
                problem = "the connection to the broker broke"
            except BrokerUnreachable as error:
                problem = str(error)
            except TimeoutError:
                problem = "the broker does not answer in time"
            except (KafkaError, OSError) as error:
                problem = repr(error)
            except Exception as error:  # a defect of ours must not end the worker
                problem = repr(error)
                if problem != self._told:
                    self._logger.exception("unexpected error while topic %s is followed", self._topic)
            self._moved = None
            if problem and problem != self._told:
                self._logger.warning(self._problem, self._topic, problem)
            self._told = problem
            stopped(problem)
            if problem:
                await asyncio.sleep(self._pause)

    def turn(self, consumer: AIOKafkaConsumer, found: Sized) -> None:
        """Note that the reader comes round. Call it once for each `getmany`. `found`: what it returned.

        Raises:
            NoAnswer: the broker has not answered for `SILENCE` seconds of turns. `run` connects again.
        """
        before, self._moved = self._moved or 0.0, monotonic()
        answered = max((consumer.last_poll_timestamp(tp) or 0 for tp in consumer.assignment()), default=0)
        busy = (
            self._moved - before > 2 * WAIT / 1000
        )  # a turn that took long: the broker may not have been asked meanwhile
        if found or answered != self._answered or busy:
            self._answered, self._silent_since = answered, self._moved
        elif self._moved - self._silent_since > SILENCE:
            raise NoAnswer(f"the broker has not answered for {SILENCE:.0f} s")

    @contextmanager
    def excused(self) -> Generator[None]:
        """Do something in the loop that may take long: `still` is 0 meanwhile."""
        self._moved = None
        try:
            yield
        finally:
            self._moved = monotonic()

    def reached(self) -> None:
        """Note that the topic is read, and say so if it was not."""
        self._moved = self._silent_since = monotonic()
        if self._limit is not None:
            self._limit.reschedule(None)
        if self._told:
            self._logger.info("topic %s is followed again", self._topic)
            self._told = ""

    async def has_changed(self, client: AIOKafkaClient, topic: DescribedTopic) -> bool:
        """Whether the topic was deleted, created again, or given partitions. Raises KafkaError."""
        with self.excused():
            async with asyncio.timeout(CONNECTING):
                now = (await topics_now(client, [self._topic])).get(self._topic)
        return now is None or now.is_another(topic) or now.partitions != topic.partitions

    async def _once(self, read: Read, partition_bytes: Callable[[int], int]) -> str:
        """Follow the topic as it is now until it changes. Returns why it cannot be followed; "" if it changed."""
        client = AIOKafkaClient(**self._settings.aiokafka())
        try:
            async with asyncio.timeout(CONNECTING):
                await client.bootstrap()
                topic = (await topics_now(client, [self._topic])).get(self._topic)
            if topic is None:
                return f"it does not exist; {self._missing}"
            consumer = AIOKafkaConsumer(
                **self._settings.aiokafka(),
                group_id=self._group,
                session_timeout_ms=int(self._settings.session_timeout * 1000),
                heartbeat_interval_ms=int(self._settings.session_timeout * 1000 / 6),
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                isolation_level=self._isolation,
                fetch_min_bytes=self._least_bytes,
                fetch_max_wait_ms=round(self._wait * 1000),
                fetch_max_bytes=FETCHED,
                max_partition_fetch_bytes=partition_bytes(topic.partitions),
            )
            try:
                async with asyncio.timeout(CONNECTING):
                    await consumer.start()
                # A member of a group may have no partition for as long as others have them.
                async with asyncio.timeout(BEGINNING if self._group is None else None) as self._limit:
                    await read(client, consumer, topic)
            finally:
                async with asyncio.timeout(DISCONNECTING):
                    await consumer.stop()
        finally:
            async with asyncio.timeout(DISCONNECTING):
                await client.close()
        return ""
