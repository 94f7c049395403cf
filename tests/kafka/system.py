"""A complete system for a test: real Kafka, workers started as processes by the command line, a picture server, and clients.

Everything is on 127.0.0.1, and every process is stopped by its id.
"""

import asyncio
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams.kafka.offsets import ISOLATION
from streams.kafka.reading import read_past_damage
from streams.profile.bag import Bag
from streams.settings import Settings
from streams.settings.names import EMBED_GROUP, PROFILE_GROUP, in_namespace
from tests.forked import Forked, run_forked
from tests.kafka.broker import KafkaBroker, free_port
from tests.stored import bags_of, rows_on_disk

# Seconds within which things happen that take one or two on an idle machine. The claim is that they happen: other test
# processes, and whatever else the machine does, may make them many times slower.
PATIENCE = 60.0
READY_TIMEOUT = 150.0  # seconds: `worker all` starts five processes
COMMAND_TIMEOUT = 180.0  # seconds
MAX_BATCH_BYTES: int = Settings.model_fields["max_batch_bytes"].default
POLL = 0.1  # seconds between two checks of a condition
READS = {"embed": (EMBED_GROUP, "user-interactions"), "profile": (PROFILE_GROUP, "embedded-interactions")}


class Record(NamedTuple):
    """One record of a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    timestamp: int  # milliseconds since the epoch, when it was sent


class System:
    """A broker, a data folder, and workers that can be started and stopped."""

    def __init__(self, broker: KafkaBroker, folder: Path, **settings: object) -> None:
        self.broker = broker
        self.folder = folder
        self.ports = {kind: free_port() for kind in ("embed", "profile", "serve")}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TASTESTREAM_")}
        self.configure(
            broker=broker.bootstrap,
            data_dir=folder / "data",
            partitions=4,
            **{f"{kind}_port": port for kind, port in self.ports.items()},
            fetch_allow_networks="127.0.0.0/8",
            commit_interval=0.2,
            **settings,
        )

    @property
    def _data(self) -> Path:
        """Where the workers keep their files."""
        return self.folder / "data" / self.environment.get("TASTESTREAM_NAMESPACE", "")

    def configure(self, **settings: object) -> None:
        """Change settings of processes that are started later."""
        self.environment |= {f"TASTESTREAM_{name.upper()}": str(value) for name, value in settings.items()}

    # -- processes

    def command(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Run a `tastestream` command until it ends."""
        return run_forked(arguments, self.environment, timeout=timeout)

    def begin(self, *arguments: str, through: Sequence[str] = ("streams",)) -> subprocess.Popen[str]:
        """Start a `tastestream` command without waiting. Its output is to be read with `communicate`. `through`: as for `launch`."""
        return Forked(
            [sys.executable, "-m", *through, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def worker(self, which: str = "all", *, ready: bool = True) -> Generator[subprocess.Popen[bytes]]:
        """Run `tastestream worker WHICH` during a block, then stop it. Its output goes to worker.log."""
        with self._stopped_at_end([self.launch(which)]) as [process]:
            if ready:
                for kind in READS if which == "all" else [which]:
                    self.wait_ready(kind, process)
            yield process

    @contextmanager
    def workers(self, *kinds: str) -> Generator[list[subprocess.Popen[bytes]]]:
        """Run workers during a block, by default embed and profile. Cheaper than `worker("all")`, which starts each with Python."""
        kinds = kinds or tuple(READS)
        with self._stopped_at_end([self.launch(kind) for kind in kinds]) as processes:
            for kind, process in zip(kinds, processes, strict=True):
                self.wait_ready(kind, process)
            yield processes

    @contextmanager
    def _stopped_at_end(self, processes: list[subprocess.Popen[bytes]]) -> Generator[list[subprocess.Popen[bytes]]]:
        try:
            yield processes
        except Exception as error:
            error.add_note(f"the end of the log of the workers:\n{self.log()[-5000:]}")
            raise
        finally:
            with ThreadPoolExecutor() as side_by_side:
                list(side_by_side.map(stop, processes))

    def launch(self, which: str, *, through: Sequence[str] = ("streams",)) -> subprocess.Popen[bytes]:
        """Start `tastestream worker WHICH` without waiting. It ends when its standard input is closed.

        Args:
            which: kind of worker, or `all`.
            through: the module to run, and its own arguments.
        """
        with (self.folder / "worker.log").open("ab") as log:
            return Forked(
                [sys.executable, "-m", *through, "worker", which, "--with-parent"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(
        self, kind: str, process: subprocess.Popen[bytes] | None = None, timeout: float = READY_TIMEOUT
    ) -> None:
        """Wait until /ready of a worker answers 200."""

        def ready() -> bool:
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the worker ended with code {process.returncode}:\n{self.log()[-3000:]}")
            return self.get(kind, "/ready")[0] == 200

        wait_until(ready, timeout, lambda: f"{kind} worker not ready:\n{self.log()[-3000:]}")

    def get(self, kind: str, path: str) -> tuple[int, str]:
        """Status and body of an HTTP page of a worker. The status is 0 if no one answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[kind]}{path}", timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, ""

    def log(self) -> str:
        """The output of the workers."""
        return (self.folder / "worker.log").read_text(errors="replace")

    def worker_pid(self, kind: str) -> int:
        """Id of the process that holds the data folder of a worker."""
        return int((self._data / kind / "LOCK").read_text())

    def remove_data(self) -> None:
        """Remove the data folder, also while workers use it."""
        remove_in_use(self.folder / "data")

    # -- topics

    @staticmethod
    def encoded(event: Mapping[str, Any]) -> bytes:
        """An event as JSON."""
        return json.dumps(event).encode()

    def named(self, name: str) -> str:
        """A topic or a group as it is at the broker, for workers in a namespace."""
        return in_namespace(self.environment.get("TASTESTREAM_NAMESPACE", ""), name)

    async def produce(
        self, events: Iterable[Mapping[str, Any] | bytes], *, partition: int | None = None, rate: float = math.inf
    ) -> None:
        """Produce events to the input topic, keyed by user, and wait until the broker has acknowledged them.

        Args:
            events: events, or raw values.
            partition: where to produce them; by default, the key decides.
            rate: events/s. The schedule does not depend on how long anything takes.
        """
        async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap, linger_ms=5) as producer:
            sent: list[Any] = []
            begun = time.monotonic()
            for number, event in enumerate(events):
                if (early := begun + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                value = event if isinstance(event, bytes) else self.encoded(event)
                key = b"raw" if isinstance(event, bytes) else str(event.get("user_id")).encode()
                sent.append(await producer.send(self.named("user-interactions"), value, key=key, partition=partition))
            for delivery in sent:
                await delivery

    async def read(self, topic: str, since: Mapping[TopicPartition, int] | None = None) -> list[Record]:
        """All committed records of a topic, in order within each partition. since: first offsets, by default the oldest."""
        read_past_damage(MAX_BATCH_BYTES)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker.bootstrap, auto_offset_reset="earliest", isolation_level=ISOLATION
        )
        await consumer.start()
        try:
            partitions = await self.partitions(topic)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            if since is None:
                await consumer.seek_to_beginning(*partitions)
            for tp, offset in (since or {}).items():
                consumer.seek(tp, offset)
            records: list[Record] = []
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                for tp, batch in (await consumer.getmany(timeout_ms=500)).items():
                    records += [
                        Record(
                            tp.partition,
                            one.offset,
                            one.key,
                            one.value,
                            {name: (value or b"").decode(errors="replace") for name, value in one.headers},
                            one.timestamp,
                        )
                        for one in batch
                        if one.offset < ends[tp]
                    ]
            return records
        finally:
            await consumer.stop()

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic. Fails if there is no such topic."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        await admin.start()
        try:
            [described] = await admin.describe_topics([topic])
        finally:
            await admin.close()
        assert described["partitions"], f"no topic {topic}"
        return [TopicPartition(topic, number) for number in range(len(described["partitions"]))]

    async def recommendations(self) -> list[dict[str, Any]]:
        """The recommendations published so far, without nulls."""
        return [
            json.loads(record.value)
            for record in await self.read(self.named("user-recommendations"))
            if record.value is not None
        ]

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """The end offset of each partition of a topic."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.broker.bootstrap)
        await consumer.start()
        try:
            return await consumer.end_offsets(await self.partitions(topic))
        finally:
            await consumer.stop()

    async def lag(self, *kinds: str) -> int:
        """Number of events that the groups of these workers have not committed; by default, of both."""
        total = 0
        for group, topic in (map(self.named, READS[kind]) for kind in kinds or READS):
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.broker.bootstrap, group_id=group, enable_auto_commit=False
            )
            await consumer.start()
            try:
                partitions = await self.partitions(topic)
                ends = await consumer.end_offsets(partitions)
                for tp in partitions:
                    total += ends[tp] - (await consumer.committed(tp) or 0)
            finally:
                await consumer.stop()
        return total

    def stored_bags(self) -> dict[str, Bag]:
        """The bags on the disk of the stopped profile worker."""
        return bags_of(rows_on_disk(self._data / "profile" / "bags"))

    async def settled(self, *kinds: str, timeout: float = 60.0, pause: float = POLL) -> None:
        """Wait until the groups of these workers, by default of both, have committed all events.

        Args:
            kinds: kinds of workers.
            timeout: seconds without progress after which it fails.
            pause: seconds between two checks.
        """
        least, deadline = -1, 0.0
        while (lag := await self.lag(*kinds)) > 0:
            await asyncio.sleep(pause)
            if least < 0 or lag < least:
                least, deadline = lag, time.monotonic() + timeout
            assert time.monotonic() < deadline, (
                f"{lag} events are still uncommitted after {timeout:.0f} s; "
                f"{ {kind: self.get(kind, '/live') for kind in self.ports} }:\n{self.log()[-3000:]}"
            )


def stop(process: subprocess.Popen[bytes], timeout: float = PATIENCE) -> int:
    """Send SIGTERM and, after `timeout` seconds, SIGKILL. Returns the exit code: a worker that had to be killed has -9."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    code = process.wait()
    if process.stdin:
        process.stdin.close()
    return code


def wait_until(
    condition: Callable[[], bool], timeout: float = PATIENCE, message: Callable[[], str] = lambda: ""
) -> None:
    """Wait for a condition. Fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, message() or f"not true within {timeout} s"
        threading.Event().wait(POLL)


def remove_in_use(folder: Path) -> None:
    """Remove a folder while processes change it: RocksDB removes and creates files at the same moment. Repeats until it is gone."""

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_until(gone, message=lambda: f"{folder} is there again: {list(folder.rglob('*'))[:9]}")


def next_line(output: IO[Any], timeout: float = COMMAND_TIMEOUT) -> str:
    """The next line that a process prints, without its end. Raises queue.Empty if it prints none within `timeout` seconds."""
    lines: SimpleQueue[str | bytes] = SimpleQueue()
    threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
    line = lines.get(timeout=timeout)
    return (line if isinstance(line, str) else line.decode()).rstrip("\n")


class PictureHandler(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base's
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def picture_server(folder: Path, handler: type[PictureHandler] = PictureHandler) -> Generator[str]:
    """Serve a folder over HTTP on 127.0.0.1. Yields the URL."""
    server = _Server(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
