"""The stage of a scenario: a real broker, worker processes, a picture server, loads, a tap, and the verdict.

A scenario starts workers, produces events, injects a fault, and asks for the verdict. Every wait is for a condition and has a
deadline. Meanwhile workers that ended by themselves are restarted, as a service manager would do.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.kafka.topics import ensure_topics
from streams.messages import Interaction
from streams.settings import read_settings
from tests.faults.load import USUAL, Load, Mix, Produced, events
from tests.faults.pictures import PictureServer
from tests.faults.process import STOP, Worker
from tests.faults.tap import INPUT, Tap
from tests.faults.verdict import Findings, Input, Row, judge, silence
from tests.kafka.broker import KafkaBroker, free_port
from tests.kafka.system import System
from tests.oracle import Oracle, trend_of
from tests.trend import latest_rows, total

PARTITIONS = 4
STALLED = 90.0  # seconds without a commit, after which the system is considered stuck
SETTLE = 600.0  # maximum seconds until everything is committed; a backlog takes long
FLOW = 120.0  # maximum seconds until there is output again
COUNTED = 60.0  # seconds until the trend has caught up with the bags
TREND = "category-trend"
POLL = 0.05  # seconds between two checks of a condition


class Stage:
    """Everything that a scenario uses."""

    def __init__(
        self,
        broker: KafkaBroker,
        folder: Path,
        pictures: PictureServer,
        oracle: Oracle,
        row: Row,
        *,
        breaks: tuple[str, ...],
    ) -> None:
        self.broker = broker
        self.folder = folder
        self.pictures = pictures
        self.oracle = oracle
        self.row = row
        self.random = Random(row.seed)
        self.settings: dict[str, object] = {}  # for workers that are created later
        self.notes: list[str] = []  # measurements for the table
        self.tap = Tap(broker.bootstrap)
        self._breaks = breaks
        self._workers: list[Worker] = []
        self._loads: list[Load] = []

    # -- actors

    def worker(self, kind: str, *, start: bool = True, ready: bool = True) -> Worker:
        """Create a worker with its own data folder. By default, start it and wait until it is ready."""
        worker = Worker(kind, self.system(f"{kind}-{len(self._workers) + 1}"), self._breaks)
        self._workers.append(worker)
        if start:
            worker.start()
        if start and ready:
            self.ready()
        return worker

    def workers(self) -> tuple[Worker, Worker]:
        """Start one embed and one profile worker, and wait until they are ready."""
        pair = self.worker("embed", ready=False), self.worker("profile", ready=False)
        self.ready()
        return pair

    def system(self, name: str) -> System:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        system = System(self.broker, folder, **self.settings)
        system.ports = {kind: free_port() for kind in system.ports}
        system.configure(commit_interval=1.0, **{f"{kind}_port": port for kind, port in system.ports.items()})
        return system

    @contextmanager
    def load(self, *, rate: float = 300, count: int | None = None, mix: Mix = USUAL, name: str = "") -> Generator[Load]:
        """Produce events in the background until the block ends."""
        source = events(self.row.seed, self.pictures.url, mix, name or f"load{len(self._loads)}")
        load = Load(self.broker.bootstrap, source, rate=rate, count=count)
        self._loads.append(load)
        with load:
            yield load

    def produce(self, records: Iterable[Produced], rate: float = 3000) -> None:
        """Produce these records in order, and wait until the broker has acknowledged them."""
        load = Load(self.broker.bootstrap, iter(records), rate=rate)
        self._loads.append(load)
        with load:
            load.wait()

    def produce_to(self, records: Iterable[tuple[str, int, bytes | None]]) -> None:
        """Produce raw records, given as topic, partition and value."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap) as producer:
                for topic, partition, value in records:
                    await producer.send_and_wait(topic, value, key=b"as it is", partition=partition)

        asyncio.run(send())

    # -- waits

    def wait_for(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for a condition. Restarts workers that end by themselves meanwhile."""
        deadline = monotonic() + timeout
        while not condition():
            self.tap.check()
            for worker in self._workers:
                worker.tend()
            assert monotonic() < deadline, f"not {what} within {timeout:.0f} s\n{self.tails()}"
            threading.Event().wait(POLL)

    def ready(self) -> None:
        """Wait until every worker that should run is ready."""
        self.wait_for(lambda: all(one.ready for one in self._workers if one.wanted), FLOW, "ready")

    def flow(self, count: int = 300, timeout: float = FLOW) -> None:
        """Wait for `count` more recommendations."""
        goal = len(self.tap.seen.outputs) + count
        self.wait_for(lambda: len(self.tap.seen.outputs) >= goal, timeout, f"{count} recommendations further")

    def flow_everywhere(self, timeout: float = FLOW) -> None:
        """Wait until each partition has produced another recommendation."""
        begun = len(self.tap.seen.outputs)

        def flows() -> bool:
            return len({output.partition for output in self.tap.seen.outputs[begun:]}) == PARTITIONS

        self.wait_for(flows, timeout, "at output from every partition")

    def elapse(self, seconds: float) -> None:
        """Let time pass, for faults that last a given time."""
        until = monotonic() + seconds
        self.wait_for(lambda: monotonic() >= until, seconds + FLOW, "later")

    def settle(self) -> bool:
        """Wait until everything is committed and read. Returns False if the system gets stuck before."""
        deadline = monotonic() + SETTLE
        asked = moved = monotonic()
        state: Any = None

        def ended() -> bool:
            nonlocal moved, state
            sample = self.tap.latest
            now = monotonic()
            if sample is None or sample.at < asked:
                return now > moved + STALLED
            if sample.lag == 0 and self.tap.caught_up:
                return True
            if sample.committed != state:
                moved, state = now, sample.committed
            return now > moved + STALLED or now > deadline

        self.wait_for(ended, SETTLE + STALLED, "settled")
        return self.tap.latest is not None and self.tap.latest.lag == 0

    def _settle_trend(self) -> None:
        """Wait until the trend is that of the input, or has not become it for long; `judge` says which."""
        valid = list(Input.of(self.read(INPUT)).valid.values())
        expected = trend_of(self.oracle.bags(valid).values(), self.oracle.bundle)
        deadline = monotonic() + COUNTED

        def there() -> bool:
            found = total(latest_rows(self.read(TREND)), self.oracle.bundle.labels_version)
            return found == expected or monotonic() > deadline

        self.wait_for(there, COUNTED + FLOW, "counted")

    # -- the end

    def verdict(self, scenario: str, *, may_fail: Callable[[Interaction], bool] = lambda _: False) -> Row:
        """Settle, stop all workers, and judge. Fails with all problems. Returns the row of the table."""
        self.row.scenario = scenario
        self.settle()
        if self.oracle.bundle.labels_version:
            self._settle_trend()
        stops = self.stop_workers()
        found = self._judge(may_fail)
        for kind, code, seconds in stops:
            if code != 0 or seconds > STOP:
                found.add(f"the {kind} worker ended with code {code} after {seconds:.1f} s")
        self._fill(found)
        if found.problems:
            pytest.fail("\n".join([*found.problems, f"exit codes: {self.crashes()}", self.tails()]), pytrace=False)
        return self.row

    def account(self) -> str:
        """Judge a scenario that failed before its verdict, as far as possible."""
        for load in self._loads:
            load.stop()
        try:
            self.settle()
            self.stop_workers()
            found = self._judge(lambda _: False)
        except Exception as error:  # noqa: BLE001 -- the scenario has already failed
            self.row.note = f"broke off: {self.row.note}"
            return f"none: {error!r}"
        self.notes.insert(0, f"broke off: {self.row.note}")
        self._fill(found)
        return "\n".join([*found.problems, f"exit codes: {self.crashes()}", self.tails()])

    def _judge(self, may_fail: Callable[[Interaction], bool]) -> Findings:
        given = Input.of(self.read(INPUT))
        self.row.events = len(given.records)
        self.read_to_the_end()
        disks = [one.bags for one in self._workers if one.kind == "profile"]
        snapshots = self.read(TREND) if self.oracle.bundle.labels_version else []
        found = judge(given, self.tap.seen, self.tap.latest, disks, self.oracle, snapshots=snapshots, may_fail=may_fail)
        acknowledged = sum(load.acknowledged for load in self._loads)
        if acknowledged > len(given.records):
            found.add(f"{acknowledged} events were produced, but the topic has {len(given.records)}")
        return found

    def _fill(self, found: Findings) -> None:
        row = self.row
        row.duplicates, row.lost, row.differing_bags = found.duplicates, found.lost, found.differing_bags
        row.crashes = sum(map(len, self.crashes().values()))
        windows = [(load.begun, load.ended) for load in self._loads]
        row.silence = round(silence(self.tap.seen.outputs, windows, PARTITIONS), 1)
        row.note = "; ".join([*(problem.partition(":")[0] for problem in found.problems), *self.notes])

    def crashes(self) -> dict[str, list[int]]:
        return {one.system.folder.name: one.crashes for one in self._workers}

    def stop_workers(self) -> list[tuple[str, int, float]]:
        """Send SIGTERM to all workers at once. Returns kind, exit code and seconds of each that was running."""
        begun = monotonic()
        running = [one for one in self._workers if one.running]
        for one in running:
            one.terminate()
        stops = [(one.kind, *one._finish(begun)) for one in running]
        for one in self._workers:
            one.kill()
        return stops

    def read_to_the_end(self) -> None:
        """Wait until the tap has read everything that is on the topics now."""
        now = monotonic()
        self.wait_for(
            lambda: self.tap.latest is not None and self.tap.latest.at > now and self.tap.caught_up,
            FLOW,
            "read to the end",
        )

    def tails(self) -> str:
        sample = self.tap.latest
        lags = {
            f"{tp.topic}/{tp.partition}": f"{sample.committed.get(tp, 0)} of {end}"
            for tp, end in (sample.ends.items() if sample else ())
            if sample and sample.committed.get(tp, end) != end
        }
        return "\n".join([f"uncommitted: {lags}", *(one.tail() for one in self._workers)])

    def read(self, topic: str) -> list[Any]:
        """The current records of a topic."""
        return asyncio.run(self._any_system().read(topic))

    def _any_system(self) -> System:
        return self._workers[0].system if self._workers else System(self.broker, self.folder)

    def close(self) -> None:
        for one in self._workers:
            one.kill()  # also ends frozen processes
        for load in self._loads:
            load._stop.set()


@contextmanager
def staged(
    folder: Path, pictures: PictureServer, oracle: Oracle, row: Row, breaks: tuple[str, ...] = ()
) -> Generator[Stage]:
    """A stage with a new broker and its topics."""
    broker = KafkaBroker(folder / "kafka", brief=True)
    broker.start()
    try:
        asyncio.run(ensure_topics(read_settings(broker=broker.bootstrap, partitions=PARTITIONS)))
        stage = Stage(broker, folder, pictures, oracle, row, breaks=breaks)
        with stage.tap:
            try:
                yield stage
            finally:
                stage.close()
    finally:
        broker.stop()
