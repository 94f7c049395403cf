"""Real workers of all kinds under a steady load, watched by a real Prometheus with the alerts of `deploy/`, and faults for them."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from model.bundle import AGGREGATOR, MANIFEST
from model.bundle.manifest import content_checksum
from streams.demo.catalogue import CATALOGUE
from streams.settings import Settings
from streams.settings.names import BAGS_CHANGELOG
from tests.bundles import write_trending
from tests.faults.load import Load, Mix, Produced, events
from tests.faults.pictures import CHUNK, PictureServer, dripping
from tests.kafka.prometheus import Prometheus
from tests.kafka.shop import Shop
from tests.kafka.system import READS, System, wait_until

KINDS = ("embed", "profile", "serve")
FACTOR = 30  # how many times as fast time runs for the alerts: a minute is two seconds
RATE = 10.0  # events/s all the time
SLOW = 12.0  # seconds of the answer of a slow picture host, at least; the alert has 10
DISK = 2500 * 1024**2  # bytes of the disk of the serve worker
BALLAST = 1024**3  # bytes
READY = 90.0  # seconds
MISSED = 3.0  # seconds since a commit that a worker would have made long ago


def instance(kind: str) -> str:
    """What a worker is called in Prometheus, as with docker-compose.yml."""
    return f"{kind}:{Settings.model_fields[f'{kind}_port'].default}"


class Stack:
    """The workers, each a process that can be killed and started, and what they depend on."""

    def __init__(self, system: System, pictures: PictureServer, folder: Path) -> None:
        self.begun = time.time()  # seconds since the epoch
        self.system = system
        self.pictures = pictures
        self.folder = folder
        self.shop = Shop(system, pictures.url)
        targets = {instance(kind): port for kind, port in system.ports.items()}
        self.prometheus = Prometheus(folder / "prometheus", targets, factor=FACTOR)
        self.bundle = folder / "bundle"  # of the profile worker, a link
        self.disk = folder / "disk"  # of the serve worker
        self.disk.mkdir()
        self.trending = write_trending(folder / "trending")
        self.switch(self.trending)

    def start(self, *kinds: str, armed: str = "defect") -> None:
        """Start workers, and wait until they are ready. armed: a fault point of tests/faults."""
        own = {"profile": {"bundle": self.bundle}, "serve": {"data_dir": self.disk}}
        usual = {"bundle": self.trending, "data_dir": self.system.folder / "data"}
        for kind in kinds:
            self.system.configure(**usual | own.get(kind, {}))
            self.shop.processes[kind] = self.system.launch(kind, through=("tests.faults.armed", armed, "--"))
        self.ready()

    def ready(self) -> None:
        """Wait until all workers that run are ready."""
        for kind, process in self.shop.processes.items():
            self.system.wait_ready(kind, process, READY)

    def switch(self, bundle: Path) -> None:
        """Let the profile worker load another bundle."""
        (self.folder / "new").symlink_to(bundle)
        (self.folder / "new").replace(self.bundle)

    def renamed(self, version: str) -> Path:
        """The bundle of all workers under another version."""
        folder = self.folder / version
        shutil.copytree(self.trending, folder)
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        content |= {"version": version}
        content["checksum"] = content_checksum(content)
        (folder / MANIFEST).write_text(json.dumps(content))
        return folder

    def load(self, name: str, rate: float, *, tag: str = "", mix: Mix | None = None) -> Load:
        """Events for a `with` block. tag: makes the addresses of the pictures others than those of all other loads."""
        source = events(1, self.pictures.url, mix or Mix(users=40), name)
        return Load(self.system.broker.bootstrap, tagged(source, tag) if tag else source, rate=rate)

    def send(self, topic: str, key: bytes, value: bytes) -> None:
        """Send one record, to partition 0."""

        async def send() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.system.broker.bootstrap) as producer:
                await producer.send_and_wait(topic, value, key=key, partition=0)

        asyncio.run(send())

    def commit_age(self, kind: str) -> float:
        """Seconds since the last commit of a worker, as it says itself."""
        page = self.system.get(kind, "/metrics")[1]
        ages = re.findall(r"^tastestream_commit_age_seconds\{.*\} (.+)$", page, re.MULTILINE)
        return max(map(float, ages), default=0.0)

    def decoders(self) -> list[int]:
        """Ids of the decoder processes of the embed worker."""
        listed = subprocess.run(
            ["pgrep", "--parent", str(self.shop.processes["embed"].pid)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in listed.stdout.split()]


def tagged(source: Iterator[Produced], tag: str) -> Iterator[Produced]:
    for one in source:
        yield Produced(one.key, one.value.replace(b'.jpg"', f'.jpg?{tag}"'.encode()))


@contextmanager
def watched(system: System, folder: Path) -> Generator[Stack]:
    """All workers under load, and Prometheus, until the block ends."""
    with PictureServer(CATALOGUE) as pictures:
        system.configure(fetch_timeout=5 * SLOW)
        stack = Stack(system, pictures, folder)
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(stack.disk)]
        small = subprocess.run(mounted, capture_output=True).returncode == 0  # as in tests/faults/test_disks.py
        try:
            stack.start(*KINDS)
            with stack.prometheus, stack.load("steady", RATE):
                wait_until(lambda: len(stack.prometheus.instant("up == 1")) == len(KINDS), READY)
                yield stack
        finally:
            stack.shop.stop()
            if small:
                subprocess.run(["umount", "--lazy", str(stack.disk)], check=True)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and the alerts that have to fire while it does."""

    what: str
    alerts: tuple[str, ...]
    cause: Callable[[Stack], AbstractContextManager[None]]
    repeat: Callable[[Stack], None] | None = None  # is done again and again until the alerts fire


@contextmanager
def profile_killed(stack: Stack) -> Generator[None]:
    stack.shop.kill("profile")
    try:
        yield
    finally:
        stack.start("profile")


@contextmanager
def broker_killed(stack: Stack) -> Generator[None]:
    """While a worker has events that are finished and not committed: one that has nothing to commit misses nothing."""
    with stack.load("busy", 60) as load:
        try:
            while not killed_before_a_commit(stack, load):
                stack.system.broker.start()
                stack.ready()
            yield
        finally:
            stack.system.broker.start()
    stack.ready()


def killed_before_a_commit(stack: Stack, load: Load) -> bool:
    """Kill the broker as soon as the load has come up. Returns whether a worker cannot commit then."""
    before = load.acknowledged
    wait_until(lambda: load.acknowledged > before + 60, READY)
    stack.system.broker.kill()
    with suppress(AssertionError):
        wait_until(lambda: any(stack.commit_age(kind) > MISSED for kind in READS), 3 * MISSED)
        return True
    return False


@contextmanager
def consumer_stalls(stack: Stack) -> Generator[None]:
    """The client of the profile worker fetches nothing any more after its 20th commit."""
    stack.shop.stop_one("profile")
    stack.start("profile", armed="freeze-consumer:20")
    try:
        with stack.load("much", 60):
            yield
    finally:
        stack.shop.kill("profile")
        stack.start("profile")


@contextmanager
def host_is_slow(stack: Stack) -> Generator[None]:
    name = max(CATALOGUE.glob("*.jpg"), key=lambda path: path.stat().st_size).name
    stack.pictures.tell(dripping(SLOW * CHUNK / (CATALOGUE / name).stat().st_size), name)
    with stack.load("slow", 1, mix=Mix(fresh=1.0, photos=(name,))):
        try:
            yield
        finally:
            stack.pictures.forget()


@contextmanager
def pictures_are_gone(stack: Stack) -> Generator[None]:
    with stack.load("gone", RATE, mix=Mix(fresh=1.0, photos=("gone.jpg",))):
        yield


@contextmanager
def transaction_open(stack: Stack) -> Generator[None]:
    loop = asyncio.new_event_loop()

    async def begin() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=stack.system.broker.bootstrap,
            transactional_id="forgotten",
            transaction_timeout_ms=120_000,
        )
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait("user-interactions", b"{}", partition=0)
        return producer

    producer = loop.run_until_complete(begin())
    try:
        yield
    finally:
        loop.run_until_complete(producer.abort_transaction())
        loop.run_until_complete(producer.stop())
        loop.close()


@contextmanager
def nothing(_: Stack) -> Generator[None]:
    yield


def kill_decoders(stack: Stack) -> None:
    """Kill the decoder processes, as the kernel does when memory is short, while pictures come."""
    tag = str(time.time())
    with stack.load(tag, 20, tag=tag):
        wait_until(lambda: bool(stack.decoders()), READY)
        for pid in stack.decoders():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(1)


def restart_serve(stack: Stack) -> None:
    """Kill the serve worker as soon as Prometheus has seen it."""
    seen = len(seen_starts(stack))
    stack.shop.kill("serve")
    stack.start("serve")
    wait_until(lambda: len(seen_starts(stack)) > seen, READY)


def seen_starts(stack: Stack) -> set[float]:
    query = f'process_start_time_seconds{{instance="{instance("serve")}"}}'
    found = stack.prometheus.over(query, time.time() - 600, time.time(), 1.0)
    return {value for one in found for _, value in one.points}


@contextmanager
def topics_deleted(stack: Stack) -> Generator[None]:
    names = [Settings.model_fields[name].default for name in ("features_topic", "category_trend_topic")]

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.system.broker.bootstrap)
        await admin.start()
        await admin.delete_topics(names)
        await admin.close()

    asyncio.run(delete())
    try:
        yield
    finally:
        stack.system.configure(bundle=stack.trending)
        assert stack.system.command("topics").returncode == 0
        stack.ready()


@contextmanager
def strange_row(stack: Stack) -> Generator[None]:
    stack.send(BAGS_CHANGELOG, b"no key of ours", b"no row of ours")
    yield


@contextmanager
def unexpected_error(stack: Stack) -> Generator[None]:
    picture = f"{stack.pictures.url}/pink-orchid.jpg"
    event = {
        "user_id": "eve",
        "item_id": "defect",
        "type": "view",
        "timestamp": 1_700_000_000_000,
        "image_url": picture,
    }
    stack.send("user-interactions", b"eve", json.dumps(event).encode())
    yield


@contextmanager
def bundle_damaged(stack: Stack) -> Generator[None]:
    folder = stack.renamed("damaged")
    with (folder / AGGREGATOR).open("ab") as file:
        file.write(b"damage")
    stack.switch(folder)
    try:
        yield
    finally:
        stack.switch(stack.trending)


@contextmanager
def bundles_differ(stack: Stack) -> Generator[None]:
    stack.switch(stack.renamed("another"))
    try:
        yield
    finally:
        stack.switch(stack.trending)


@contextmanager
def disk_nearly_full(stack: Stack) -> Generator[None]:
    ballast = stack.disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, BALLAST)
    try:
        yield
    finally:
        ballast.unlink()


FAULTS = (
    Fault("`kill -9` of the serve worker, again and again", ("TastestreamRestarts",), nothing, restart_serve),
    Fault("a record of somebody else on the changelog topic", ("TastestreamRowsQuarantined",), strange_row),
    Fault("an unexpected error in the embed worker", ("TastestreamInternalErrors",), unexpected_error),
    Fault("a damaged bundle", ("TastestreamBundleRefused",), bundle_damaged),
    Fault("another bundle in one of the workers", ("TastestreamBundlesDiffer",), bundles_differ),
    Fault("a file that fills the disk", ("TastestreamDiskFull",), disk_nearly_full),
    Fault("a transaction that is not ended", ("TastestreamHeldBack",), transaction_open),
    Fault("pictures that are gone (404)", ("TastestreamDeadLetters", "TastestreamPicturesFail"), pictures_are_gone),
    Fault("`kill -9` of the decoder processes", ("TastestreamDecodersEnd",), nothing, kill_decoders),
    Fault("a picture host that drips for 12 s", ("TastestreamSlow",), host_is_slow),
    Fault("a consumer that fetches nothing", ("TastestreamStalled", "TastestreamLagGrows"), consumer_stalls),
    Fault(
        "the topics of features and of the trend deleted",
        ("TastestreamFeaturesNotFollowed", "TastestreamTrendNotFollowed"),
        topics_deleted,
    ),
    Fault(
        "`kill -9` of the profile worker",
        ("TastestreamWorkerDown", "TastestreamKindMissing", "TastestreamNobodyReads"),
        profile_killed,
    ),
    Fault(
        "`kill -9` of the broker",
        ("TastestreamLagUnknown", "TastestreamNotReady", "TastestreamReplicaOld", "TastestreamCommitsStop"),
        broker_killed,
    ),
)
