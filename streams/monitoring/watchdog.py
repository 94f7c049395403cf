"""Ends a worker that has work and makes no progress, so that its supervisor restarts it.

After a broker outage, or for an unforeseen reason, a consumer can stall while its process lives. The watchdog looks from
outside: it asks the broker for the end of the topic, over a connection of its own. A broker that does not answer is an outage,
and the watchdog waits. Work that does not progress although the broker answers is a stall.

It also compares the topic with the one that the worker reads: its id and its partitions. Somebody may have deleted it, created
it again or added partitions. The worker then begins anew on what the topic is now; while there is no topic, it waits.
"""

import asyncio
import faulthandler
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams import metrics
from streams.engine.app import App
from streams.exceptions import StallError
from streams.kafka.metadata import DescribedTopic, topics_now
from streams.kafka.offsets import ISOLATION, high_watermarks
from streams.kafka.topics import surplus

logger = logging.getLogger(__name__)

CHECKS = 6  # per stall time-out, at least
INTERVAL = 10.0  # seconds between two checks, at most: a changed topic is noticed within two of them
PROBE_TIMEOUT = 5.0  # seconds for the broker to answer


@dataclass(frozen=True)
class Observation:
    """What the watchdog observed at one moment."""

    progress: tuple[int, ...]  # changes with every kind of progress
    not_ready: str  # why the worker takes no events, or not all; empty when it does
    in_flight: int  # records that are read and not finished
    lag: int | None  # unfinished committed records of our partitions; None when it is unknown
    thread_alive: bool = True
    waits: bool = False  # for the broker to answer, or for its topic to exist

    @property
    def has_work(self) -> bool:
        return bool(self.not_ready or self.in_flight or self.lag)

    def __str__(self) -> str:
        state = f"not ready ({self.not_ready})" if self.not_ready else "ready"
        return f"{state}, {self.in_flight} events in flight, lag {'unknown' if self.lag is None else self.lag}"


class StallTimer:
    """Measures how long there has been work without progress. Pure apart from its clock."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._progress: tuple[int, ...] = ()

    def seconds(self, seen: Observation) -> float:
        """Seconds of work without progress. Zero while the worker waits: only others can end that, and a restart would not."""
        if seen.waits or not seen.has_work or seen.progress != self._progress:
            self._since = self._clock()
            self._progress = seen.progress
        return self._clock() - self._since


class Watchdog:
    """Checks one app for as long as `run` runs."""

    def __init__(
        self, app: App, *, name: str, timeout: float, kafka: Mapping[str, Any], not_ready: Callable[[App], str]
    ) -> None:
        """Watch an app.

        Args:
            app: the worker's app.
            name: of the worker, for its metrics.
            timeout: seconds that a stall may last.
            kafka: connection arguments of an aiokafka client.
            not_ready: why the worker takes no events yet; empty when it does.
        """
        self._app = app
        self._name = name
        self.timeout = timeout
        self._kafka = kafka
        self._not_ready = not_ready
        self._timer = StallTimer()
        self._probe: AIOKafkaConsumer | None = None
        self.seconds = 0.0  # of work without progress, at the last check
        self.seen: Observation | None = None
        self.problem = ""  # of the broker or the topic, at the last check; empty when there is none
        self._told: dict[str, int] = {}  # number of partitions of each topic that was logged as having too many
        self._held_checks = 0  # in a row, that found events behind an open transaction

    async def run(self) -> None:
        """Check until the worker stalls.

        If the event loop itself is blocked for `timeout` seconds, no exception can be raised. Python then prints the stacks of all
        threads, and the process ends with code 1.

        Raises:
            StallError: there was work without progress for `timeout` seconds, the consumer's thread has died, or a topic ends
                below the offset up to which it was read.
            TopicsError: the topic was created again with fewer partitions than the bags have.
        """
        try:
            while True:
                faulthandler.dump_traceback_later(max(self.timeout, 1.0), exit=True)
                seen = self.seen = await self._observe()
                self.seconds = self._timer.seconds(seen)
                await self._tell_held_back(seen)
                metrics.lag.labels(self._name).set(-1 if seen.lag is None else seen.lag)
                if not seen.thread_alive:
                    raise StallError("the consumer's thread has died")
                if self.seconds >= self.timeout:
                    raise StallError(f"stalled: no progress for {self.seconds:.0f} s although there is work: {seen}")
                await asyncio.sleep(min(self.timeout / CHECKS, INTERVAL))
        finally:
            faulthandler.cancel_dump_traceback_later()
            await self._close()

    async def _observe(self) -> Observation:
        app = self._app
        tables: Any = app.tables.values()
        recovered = sum(table.recovered for table in tables)
        not_ready = self._not_ready(app)
        lag, waits = None, False
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                probe = await self._started()
                topics = await topics_now(probe._client, [app.reads, *app.tables.changelog_topics])
                missing = [name for name in (app.reads, *app.tables.changelog_topics) if name not in topics]
                waits = bool(missing)
                self._count(topics)
                problem = self._missing(missing[0]) if missing else await self._compare(topics[app.reads], not_ready)
                if not (problem or not_ready):
                    lag = await self._lag(probe, app.in_flight.unfinished)
        except (KafkaError, TimeoutError) as error:
            logger.warning("the broker does not answer: %r", error)
            await self._close()
            problem, waits = "the broker does not answer", True
        self.problem = problem
        return Observation(
            (app.in_flight.progress, recovered),
            not_ready or problem,
            len(app.in_flight),
            lag,
            app.consumer.thread_alive,
            waits,
        )

    async def _started(self) -> AIOKafkaConsumer:
        if self._probe is None:
            self._probe = AIOKafkaConsumer(
                **self._kafka, isolation_level=ISOLATION, request_timeout_ms=int(PROBE_TIMEOUT * 1000)
            )
            await self._probe.start()
        return self._probe

    def _count(self, topics: Mapping[str, DescribedTopic]) -> None:
        """Compare the numbers of partitions with that of the tables."""
        number = self._app.partitions
        if number is None:
            return
        for name, topic in topics.items():
            line = surplus(name, topic.partitions, number)
            if line and topic.partitions != self._told.get(name):
                self._told[name] = topic.partitions
                logger.warning("%s", line)

    def _missing(self, name: str) -> str:
        problem = f"topic {name} does not exist"
        if problem != self.problem:
            logger.warning("topic %s does not exist: somebody deleted it; waiting until it is created again", name)
        return problem

    async def _compare(self, topic: DescribedTopic, not_ready: str) -> str:
        """Compare the topic with what the worker reads. Returns the difference, or "" if there is none."""
        app, name = self._app, self._app.reads
        if not_ready:
            return ""  # a generation is about to begin, on the topic as it is now
        reading, known = app.consumer.reading, app.consumer.known_partitions
        if reading is None or reading.is_another(topic):
            await app.consumer.reopen()
            return f"topic {name} was deleted and created again; the worker has yet to read it"
        if topic.partitions != known:
            return f"topic {name} has {topic.partitions} partitions, and the worker knows of {known} yet"
        if app.consumer.unread() and not self._not_ready(app):
            await app.consumer.reopen()
            return f"the worker does not read all of its partitions of topic {name} yet"
        return ""

    async def _lag(self, probe: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> int:
        """The number of records above the positions."""
        if not positions:
            return 0
        ends = await probe.end_offsets(list(positions))
        if beyond := [tp for tp, end in ends.items() if end < positions[tp]]:  # behind an open transaction?
            ends |= await high_watermarks(self._kafka, beyond)
        for tp, end in ends.items():
            if end < positions[tp]:
                raise StallError(
                    f"{tp.topic}/{tp.partition} ends at {end}, but was read to {positions[tp]}: the topic was truncated or re-created"
                )
        return sum(end - positions[tp] for tp, end in ends.items())

    async def _tell_held_back(self, seen: Observation) -> None:
        """Publish how many events wait behind open transactions, and log it when it lasts."""
        held = await self._app.consumer.held_back() if seen.thread_alive and not seen.not_ready else 0
        metrics.held_back.labels(self._name).set(held)
        self._held_checks = self._held_checks + 1 if held else 0
        if self._held_checks == 2:
            logger.warning(
                "%d events wait behind a transaction that is still open; they are read once its producer commits or aborts it",
                held,
            )

    async def _close(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            await probe.stop()
