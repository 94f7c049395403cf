"""Ends a worker that has work and makes no progress, so that whoever supervises it starts it again.

After a broker's outage, or for a reason that nobody has thought of, a consumer may stand still while its process lives. The
watchdog looks from outside: it asks the broker, over a connection of its own, how far the topic goes. A broker that does
not answer is an outage, and is waited for; work that does not move although the broker answers is a stall.
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

logger = logging.getLogger(__name__)

LOOKS = 6  # in the time that a stall may last
PROBE_TIMEOUT = 5.0  # seconds for the broker to answer


@dataclass(frozen=True)
class Observation:
    """What the watchdog saw."""

    progress: tuple[int, ...]  # moves while there is progress, of whatever kind
    not_ready: str  # why no events are taken yet; empty when they are
    in_flight: int  # records read and not finished
    lag: int | None  # records of our partitions that are not finished yet; None when the broker does not answer
    thread_alive: bool = True

    @property
    def has_work(self) -> bool:
        return bool(self.not_ready or self.in_flight or self.lag)

    def __str__(self) -> str:
        state = f"not ready ({self.not_ready})" if self.not_ready else "ready"
        return f"{state}, {self.in_flight} events in flight, lag {'unknown' if self.lag is None else self.lag}"


class StallTimer:
    """How long there has been work and no progress. Pure but for its clock."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._progress: tuple[int, ...] = ()

    def seconds(self, sight: Observation) -> float:
        """Seconds, 0 while the broker does not answer: that is an outage, and time heals it."""
        if sight.lag is None or not sight.has_work or sight.progress != self._progress:
            self._since = self._clock()
            self._progress = sight.progress
        return self._clock() - self._since


class Watchdog:
    """Looks at one app for as long as `run` runs."""

    def __init__(
        self, app: App, *, name: str, timeout: float, kafka: Mapping[str, Any], not_ready: Callable[[App], str]
    ) -> None:
        """timeout: seconds that a stall may last. kafka: how an aiokafka client connects."""
        self._app = app
        self._name = name
        self.timeout = timeout
        self._kafka = kafka
        self._not_ready = not_ready
        self._timer = StallTimer()
        self._probe: AIOKafkaConsumer | None = None
        self.seconds = 0.0  # of work without progress, when last looked
        self.sight: Observation | None = None

    async def run(self) -> None:
        """Raises StallError when work has made no progress for `timeout` seconds, the consumer's thread has died, or a topic
        ends before the place up to which it was read.

        An event loop that does not turn for that long cannot raise: then Python prints where all threads are, and the
        process ends with code 1.
        """
        try:
            while True:
                faulthandler.dump_traceback_later(max(self.timeout, 1.0), exit=True)
                sight = self.sight = await self._look()
                self.seconds = self._timer.seconds(sight)
                metrics.lag.labels(self._name).set(-1 if sight.lag is None else sight.lag)
                if not sight.thread_alive:
                    raise StallError("the consumer's thread has died")
                if self.seconds >= self.timeout:
                    raise StallError(f"stalled: no progress for {self.seconds:.0f} s although there is work: {sight}")
                await asyncio.sleep(self.timeout / LOOKS)
        finally:
            faulthandler.cancel_dump_traceback_later()
            await self._close()

    async def _look(self) -> Observation:
        app = self._app
        tables: Any = app.tables.values()
        recovered = sum(table.recovered for table in tables)
        return Observation(
            (app.in_flight.progress, recovered),
            self._not_ready(app),
            len(app.in_flight),
            await self._lag(app.in_flight.unfinished),
            app.consumer.thread_alive,
        )

    async def _lag(self, positions: Mapping[TopicPartition, int]) -> int | None:
        """How many records there are above the positions; None when the broker does not answer."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                if self._probe is None:
                    self._probe = AIOKafkaConsumer(**self._kafka, request_timeout_ms=int(PROBE_TIMEOUT * 1000))
                    await self._probe.start()
                if not positions:
                    await self._probe.topics()
                    return 0
                ends = await self._probe.end_offsets(list(positions))
        except (KafkaError, TimeoutError) as error:
            logger.warning("no answer from the broker: %r", error)
            await self._close()
            return None
        for tp, end in ends.items():
            if end < positions[tp]:
                raise StallError(
                    f"{tp.topic}/{tp.partition} ends at {end}, but is read up to {positions[tp]}: it was cut off or made anew"
                )
        return sum(end - positions[tp] for tp, end in ends.items())

    async def _close(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            await probe.stop()
