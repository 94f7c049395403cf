"""Bundles on real Kafka that change while the workers run: each event is scored by one of them, and nothing is lost."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from model.bundle import AGGREGATOR, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum
from streams.demo.catalogue import CATALOGUE
from streams.kafka.fleet import BundleName, MemberBundles, fleet
from streams.settings import read_settings
from tests.kafka.system import System, picture_server
from tests.kafka.test_under_load import events
from tests.model.bundle.networks import network, write_colours

KINDS = ("embed", "profile")
WORKERS = 3  # under the supervisor, the serve worker among them
LOAD = 100.0  # events/s
TAKEN = 120.0  # seconds until a worker has a new bundle, or has refused it, on a busy machine


class Shop:
    """Running workers whose `BUNDLE` is a link, and the bundles that it may lead to."""

    def __init__(self, system: System, pictures: str, folder: Path) -> None:
        self.system = system
        self.pictures = pictures
        self.folder = folder
        self.link = folder / "current"
        self.original = Bundle.load()
        self.base = self.version("base")
        self.sent: list[str] = []
        self.next_link = folder / "following"
        self.switch(self.base)
        self.switch(self.version("next"), self.next_link)
        system.configure(bundle=self.link, next_bundle=self.next_link)

    def version(self, version: str, *, one_category: bool = False) -> Path:
        """Write a bundle of the same embedder. one_category: with another aggregator, for one category."""
        folder = self.folder / version
        shutil.copytree(self.original.path, folder)
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if one_category:
            (folder / AGGREGATOR).write_bytes(one_score(self.original.embedding_size))
            content["files"][AGGREGATOR] = file_sha256(folder / AGGREGATOR)
            content |= {"categories": ["anything"], "prior": [0.5], "fields": []}
        content |= {"version": version}
        content["checksum"] = content_checksum(content)
        (folder / MANIFEST).write_text(json.dumps(content))
        return folder

    def damaged(self, version: str) -> Path:
        folder = self.version(version)
        network = bytearray((folder / AGGREGATOR).read_bytes())
        network[len(network) // 2] ^= 1
        (folder / AGGREGATOR).write_bytes(network)
        return folder

    def switch(self, folder: Path, link: Path | None = None) -> None:
        """Make a link, by default that of `BUNDLE`, lead to another folder, atomically."""
        (self.folder / "new").symlink_to(folder)
        (self.folder / "new").replace(link or self.link)

    async def in_use(self, version: str, *kinds: str, role: str = "served") -> None:
        """Wait until these workers, by default both, say that they have this version."""
        await until(lambda: {self.version_of(kind, role) for kind in kinds or KINDS} == {version}, self.system)

    def version_of(self, kind: str, role: str = "served") -> str:
        """The version of the bundle that a worker says it has; it has to be ready all the time."""
        status, body = self.system.get(kind, "/ready")
        assert status == 200, body
        return json.loads(body)["bundles"][role]["version"]

    def known_to_the_serve_worker(self) -> set[str]:
        """The versions that the other workers have, as the serve worker knows it. None of them joins its group again."""
        workers = json.loads(self.system.get("serve", "/v1/model")[1])["workers"]
        return {one["bundles"]["served"]["version"] for one in workers}

    async def lines(self, part: str, since: int, count: int = len(KINDS)) -> list[str]:
        """Wait until so many workers have logged a line, and return the lines. since: length of the log before."""

        def found() -> list[str]:
            return [line for line in self.system.log()[since:].splitlines() if part in line]

        await until(lambda: len(found()) >= count, self.system)
        return found()

    async def send(self, name: str, count: int, rate: float) -> None:
        batch = events(self.pictures, count, name)
        self.sent += [str(event["event_id"]) for event in batch]
        await self.system.produce(batch, rate=rate)

    @asynccontextmanager
    async def under_load(self, name: str) -> AsyncGenerator[None]:
        """Send events before this block, all the time in it, and after it; then wait until all are processed."""
        left = asyncio.Event()

        async def send() -> None:
            part = 1
            while not left.is_set():
                await self.send(f"{name}-{part}", 50, rate=LOAD)
                part += 1

        await self.send(f"{name}-0", 50, rate=LOAD)
        await self.system.settled()
        load = asyncio.create_task(send())
        try:
            yield
        finally:
            left.set()
            await load
        await self.send(f"{name}-last", 50, rate=LOAD)
        await self.system.settled()

    def metric(self, name: str, kind: str) -> float:
        text = self.system.get(kind, "/metrics")[1]
        return float(text.split(f'\ntastestream_bundle_{name}{{role="served",worker="{kind}"}} ')[1].split()[0])

    async def models(self) -> dict[str, list[str]]:
        """The versions that the recommendations of each event name. Those of other categories have to have scores of them."""
        found: dict[str, list[str]] = {}
        for one in await self.system.recommendations():
            named = {category["category"] for category in one["categories"]}
            assert (named == {"anything"}) == one["model"]["version"].startswith("one"), one
            found.setdefault(one["event_id"], []).append(one["model"]["version"])
        return found

    def pids(self) -> list[int]:
        return [self.system.worker_pid(kind) for kind in KINDS]


def one_score(size: int) -> bytes:
    """An aggregator with one score."""
    bags = ["batch", "items"]
    return network(
        [
            helper.make_node("ReduceMean", ["embeddings", "last"], ["means"], keepdims=0),
            helper.make_node("ReduceMean", ["means", "items"], ["mean"], keepdims=1),
            helper.make_node("Sigmoid", ["mean"], ["scores"]),
            helper.make_node("Softmax", ["log_prior"], ["attention"]),
        ],
        {"embeddings": [*bags, size], "log_prior": bags},
        {"scores": ["batch", 1], "attention": bags},
        last=np.array([2]),
        items=np.array([1]),
    )


async def until(condition: Callable[[], bool], system: System) -> None:
    deadline = time.monotonic() + TAKEN
    while not condition():
        assert time.monotonic() < deadline, system.log()[-3000:]
        await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def shop(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with picture_server(CATALOGUE) as pictures:
        shop = Shop(system, pictures, tmp_path_factory.mktemp("bundles"))
        with system.worker("all"):
            yield shop


@pytest.fixture
async def served(shop: Shop) -> AsyncIterator[Shop]:
    """The workers serve the bundle `base`, and go on without a restart."""
    shop.switch(shop.base)
    await shop.in_use("base")
    pids = shop.pids()
    yield shop
    assert shop.pids() == pids


async def test_a_switched_link_under_load_changes_the_model_and_loses_nothing(served: Shop) -> None:
    swaps = {kind: served.metric("swaps_total", kind) for kind in KINDS}
    other = served.version("one-1", one_category=True)
    async with served.under_load("load"):
        served.switch(other)
        await served.in_use("one-1")
        await until(lambda: served.known_to_the_serve_worker() == {"one-1"}, served.system)
    models = await served.models()
    assert models.keys() == set(served.sent)
    assert {len(versions) for versions in models.values()} == {1}, "nothing is published twice"
    assert {version for versions in models.values() for version in versions} == {"base", "one-1"}
    for kind in KINDS:
        assert served.metric("swaps_total", kind) == swaps[kind] + 1
        assert time.time() - 300 < served.metric("since_seconds", kind) < time.time()
    for order in (await orders(served.system)).values():
        assert order == sorted(order), "the new bundle scores all that comes after it was loaded"


async def orders(system: System) -> dict[int, list[str]]:
    """The versions in each partition of the recommendations, in order."""
    found: dict[int, list[str]] = {}
    for record in await system.read("user-recommendations"):
        found.setdefault(record.partition, []).append(json.loads(record.value or b"")["model"]["version"])
    return found


@pytest.mark.parametrize("what", ["damaged", "another embedder", "nothing"])
async def test_a_bundle_that_does_not_fit_changes_nothing_but_one_log_line(
    served: Shop, tmp_path: Path, what: str
) -> None:
    since = len(served.system.log())
    refusals = {kind: served.metric("refusals_total", kind) for kind in KINDS}
    if what == "damaged":
        folder, said = served.damaged("broken"), "expected SHA-256"
    elif what == "nothing":
        folder, said = tmp_path / "nowhere", "expected a bundle's folder"
    else:
        folder, said = write_colours(tmp_path / "colours").path, "`tastestream rollout prepare`"
    served.switch(folder)
    lines = await served.lines(f"refused BUNDLE {served.link}, and default base stays in use", since)
    assert all(said in line for line in lines)
    await served.send(what, 40, rate=20)
    await served.system.settled()
    assert {served.version_of(kind) for kind in KINDS} == {"base"}
    models = await served.models()
    assert {version for event, versions in models.items() if event.startswith(what) for version in versions} == {"base"}
    assert models.keys() == set(served.sent)
    assert len(await served.lines("refused", since)) <= WORKERS, "one line of each worker, however often it looks"
    await until(lambda: {kind: served.metric("refusals_total", kind) - 1 for kind in KINDS} == refusals, served.system)


@pytest.mark.slow
async def test_a_bundle_that_is_copied_slowly_is_used_once_it_is_complete(served: Shop) -> None:
    complete, folder = served.version("slow"), served.folder / "copy"
    folder.mkdir()
    since = len(served.system.log())
    served.switch(folder)
    shutil.copy(complete / MANIFEST, folder)
    await served.lines(f"refused BUNDLE {served.link}", since)
    assert {served.version_of(kind) for kind in KINDS} == {"base"}
    for file in complete.iterdir():
        shutil.copy(file, folder)
    await served.in_use("slow")


@pytest.mark.slow
async def test_a_link_that_is_switched_twenty_times_under_load_loses_nothing(served: Shop) -> None:
    versions = [served.version("two"), served.version("one-2", one_category=True), served.version("three")]
    async with served.under_load("switches"):
        for number in range(20):
            served.switch(versions[number % 3])
            os.kill(served.system.worker_pid("profile"), signal.SIGHUP)
            await served.in_use(versions[number % 3].name, "profile")
    await served.in_use(versions[19 % 3].name)
    models = await served.models()
    assert models.keys() == set(served.sent)
    named = {event: versions for event, versions in models.items() if event.startswith("switches")}
    assert {len(found) for found in named.values()} == {1}
    assert {found for one in named.values() for found in one} == {"base", "two", "one-2", "three"}


async def test_sighup_to_the_supervisor_reaches_all_workers_and_ends_none(served: Shop) -> None:
    [supervisor] = {parent_of(pid) for pid in served.pids()}
    since = len(served.system.log())
    os.kill(supervisor, signal.SIGHUP)
    lines = await served.lines(f"BUNDLE {served.link} holds default base, which is in use already", since)
    assert len(KINDS) <= len(lines) <= WORKERS
    served.switch(served.version("asked"))
    os.kill(supervisor, signal.SIGHUP)
    await served.in_use("asked")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_the_next_bundle_is_swapped_as_well_and_by_itself(served: Shop) -> None:
    served.switch(served.version("next-2"), served.next_link)
    await served.in_use("next-2", role="next")
    assert {served.version_of(kind) for kind in KINDS} == {"base"}
    await served.send("next", 40, rate=40)
    await served.system.settled()
    for topic, version in (("user-recommendations", "base"), ("user-recommendations-next", "next-2")):
        messages = [json.loads(record.value or b"") for record in await served.system.read(topic)]
        named = [one["model"]["version"] for one in messages if one["event_id"].startswith("next-")]
        assert named == [version] * 40


async def test_the_fleet_says_which_bundles_the_workers_joined_with(served: Shop) -> None:
    settings = read_settings(broker=served.system.broker.bootstrap)
    members = await fleet(settings)
    embedder = served.original.embedder_version
    bundles = MemberBundles(BundleName("default", "base", embedder), BundleName("default", "next", embedder))
    assert [(member.group, member.bundles) for member in members] == [
        (settings.embed_group, bundles),
        (settings.profile_group, bundles),
    ]
    assert {member.host for member in members} == {"127.0.0.1"}
    assert all(member.id for member in members)


async def test_there_are_no_members_of_groups_that_nobody_is_in(served: Shop) -> None:
    assert await fleet(read_settings(broker=served.system.broker.bootstrap, namespace="empty")) == []
