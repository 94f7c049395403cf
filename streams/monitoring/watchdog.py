"""Ends a worker that has work and makes no progress, so that its supervisor restarts it.

After a broker outage, or for an unforeseen reason, a consumer can stall while its process lives. The watchdog looks from
outside: it asks the broker for the end of the topic, over a connection of its own. A broker that does not answer is an outage,
and the watchdog waits. Work that does not progress although the broker answers is a stall, and so are offsets that are not
committed.

It also compares the topic with the one that the worker reads: its id and its partitions. Somebody may have deleted it, created
it again or added partitions. The worker then begins anew on what the topic is now; while there is no topic, it waits.
"""

import asyncio
import faulthandler
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams import metrics
from streams.engine.app import App
from streams.exceptions import StallError
from streams.kafka.metadata import DescribedTopic, topics_now
from streams.kafka.offsets import ISOLATION, high_watermarks, known_ends
from streams.kafka.topics import surplus

logger = logging.getLogger(__name__)

CHECKS = 6  # per stall time-out, at least
INTERVAL = 10.0  # seconds between two checks, at most: a changed topic is noticed within two of them
SILENT = "the broker does not answer"  # what /ready says
PROBE_TIMEOUT = 5.0  # seconds for the broker to answer


@dataclass(frozen=True)
class Observation:
    """What the watchdog observed at one moment."""

    progress: int  # grows while bags are recovered
    not_ready: str  # why the worker takes no events, or not all; empty when it does
    in_flight: int  # records that are read and not finished
    lag: int | None  # unfinished committed records of our partitions, as far as they are known; None when none is
    moved: float = 0.0  # when a record was finished or attempted last, or when a first one came; monotonic seconds
    commits: int = 0  # grows with each commit, and while there is nothing to commit
    thread_alive: bool = True
    waits: bool = False  # for the broker to answer, or for its topic to exist

    @property
    def has_work(self) -> bool:
        return bool(self.not_ready or self.in_flight or self.lag)

    def __str__(self) -> str:
        state = f"not ready ({self.not_ready})" if self.not_ready else "ready"
        return f"{state}, {self.in_flight} events in flight, lag {'unknown' if self.lag is None else self.lag}"


class StallTimer:
    """Measures how long there has been work without progress, and how long no commit. Pure apart from its clock."""

    def __init__(self, clock: Callable[[], float] = monotonic, *, commit_interval: float = 0.0) -> None:
        """Begin now. `commit_interval`: seconds between two commits, which are no stall."""
        self._clock = clock
        self._since = self._committed = clock()
        self._progress = -1
        self._commits = -1
        self._commit_interval = commit_interval

    def seconds(self, seen: Observation) -> float:
        """Seconds of work without progress. Zero while the worker waits: only others can end that, and a restart would not."""
        now = self._clock()
        if seen.waits or not seen.has_work or seen.progress != self._progress:
            self._since = now
            self._progress = seen.progress
        self._since = max(self._since, seen.moved)
        return now - self._since

    def uncommitted(self, seen: Observation) -> float:
        """Seconds for which a commit is overdue. Zero while the worker waits or is not ready: nothing is committed then."""
        now = self._clock()
        if seen.waits or seen.not_ready or seen.commits != self._commits:
            self._committed = now
            self._commits = seen.commits
        return max(now - self._committed - self._commit_interval, 0.0)


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
        self._timer = StallTimer(commit_interval=app.conf.broker_commit_interval)
        self._probe: AIOKafkaConsumer | None = None
        self.seen: Observation | None = None
        self.problem = ""  # of the broker or the topic, at the last check; empty when there is none
        self._told: dict[str, int] = {}  # number of partitions of each topic that was logged as having too many
        self._held_checks = 0  # in a row, that found events behind an open transaction
        self._silent_since = 0.0  # when the broker answered last, if it does not answer now; seconds
        self._unknown: list[TopicPartition] = []  # those whose ends no broker tells

    async def run(self) -> None:
        """Check until the worker stalls.

        If the event loop itself is blocked for `timeout` seconds, no exception can be raised. Python then prints the stacks of all
        threads, and the process ends with code 1.

        Raises:
            StallError: there was work without progress, or no commit, for `timeout` seconds, the consumer's thread has died, or a
                topic ends below the offset up to which it was read.
            TopicsError: the topic was created again with fewer partitions than the bags have.
        """
        commit_age = metrics.commit_age.labels(self._name)
        commit_age.set_function(lambda: self._app.consumer.commit_age)
        try:
            while True:
                faulthandler.dump_traceback_later(max(self.timeout, 1.0), exit=True)
                seen = self.seen = await self._observe()
                seconds, overdue = self._timer.seconds(seen), self._timer.uncommitted(seen)
                await self._tell_held_back(seen)
                metrics.lag.labels(self._name).set(-1 if seen.lag is None or self._unknown else seen.lag)
                if not seen.thread_alive:
                    raise StallError("the consumer's thread has died")
                if seconds >= self.timeout:
                    raise StallError(f"stalled: no progress for {seconds:.0f} s although there is work: {seen}")
                if overdue >= self.timeout:
                    raise StallError(f"stalled: no commit for {overdue:.0f} s although the broker answers: {seen}")
                await asyncio.sleep(min(self.timeout / CHECKS, INTERVAL))
        finally:
            commit_age.set_function(lambda: nan)
            faulthandler.cancel_dump_traceback_later()
            await self._close()

    def look(self) -> tuple[float, Observation]:
        """What there is at this moment, as far as it takes no question to a broker; the rest is of the last check.

        Returns:
            Seconds without progress or without a commit, and what was seen.
        """
        last = self.seen
        if last is None:
            now = self._now(self._not_ready(self._app), None, waits=True)
        else:
            not_ready = self._not_ready(self._app) or (last.not_ready if self.problem else "")
            now = self._now(not_ready, last.lag, waits=last.waits)
        return max(self._timer.seconds(now), self._timer.uncommitted(now)), now

    def _now(self, not_ready: str, lag: int | None, *, waits: bool) -> Observation:
        app = self._app
        tables: Any = app.tables.values()
        return Observation(
            progress=sum(table.recovered for table in tables),
            not_ready=not_ready,
            in_flight=len(app.in_flight),
            lag=lag,
            moved=app.in_flight.moved,
            commits=app.consumer.commits,
            thread_alive=app.consumer.thread_alive,
            waits=waits,
        )

    async def _observe(self) -> Observation:
        app = self._app
        not_ready = self._not_ready(app)
        lag, waits = None, False
        self._unknown = []
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
            if not self._silent_since:
                self._silent_since = monotonic()
                logger.warning("the broker does not answer: %r", error)
            await self._close()
            problem, waits = SILENT, True
        else:
            self._tell_answer()
        self.problem = problem or self._leaderless()
        return self._now(not_ready or problem, lag, waits=waits)

    @property
    def is_broker_silent(self) -> bool:
        """Whether the broker did not answer at the last check."""
        return bool(self._silent_since)

    def _tell_answer(self) -> None:
        """Log that the broker answers again, if it did not."""
        if self._silent_since:
            logger.info("the broker answers again after %.0f s", monotonic() - self._silent_since)
            self._silent_since = 0.0

    def _leaderless(self) -> str:
        """Which partitions no broker tells the end of; empty if there is none. Logs it when that begins."""
        if not self._unknown:
            return ""
        named = ", ".join(str(tp.partition) for tp in sorted(self._unknown))
        problem = f"no broker answers for partitions {named} of topic {self._app.reads}; do they have a leader?"
        if problem != self.problem:
            logger.warning("%s; the others go on", problem)
        return problem

    async def _started(self) -> AIOKafkaConsumer:
        if self._probe is None:
            self._probe = AIOKafkaConsumer(
                **self._kafka, isolation_level=ISOLATION, request_timeout_ms=int(PROBE_TIMEOUT * 1000)
            )
            await self._probe.start()
            await asyncio.sleep(0)  # aiokafka cancels its own task in `stop`, and fails if that has not begun yet
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
        """The number of records above the positions, of the partitions whose ends are known."""
        if not positions:
            return 0
        ends = await known_ends(probe, positions.keys())
        if not ends:
            raise KafkaConnectionError("it does not say where the partitions end")
        self._unknown = [tp for tp in positions if tp not in ends]
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
