"""The trend on real Kafka: what the topic ends with is the sum over the bags, whichever worker counted, died or was disturbed.

One story is played once, with two profile workers. Each test then holds one sentence against what was recorded.
"""

import asyncio
import json
import math
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from model.bundle import LABELS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum
from model.quantization import quantize
from streams.messages import EmbeddedInteraction, encode_embedded, parse_embedded
from streams.profile.bag import Bag, fold
from streams.settings import read_settings
from streams.trend.follower import TrendFollower
from streams.trend.reading import read_history
from streams.trend.trend import DAY
from tests.bundles import write_trending
from tests.kafka.system import PATIENCE, System, stop, wait_until
from tests.oracle import MAX_SLOTS, trend_of
from tests.trend import latest_rows, total

TOPIC, EMBEDDED = "category-trend", "embedded-interactions"
USERS, ITEMS = 200, 60
START = 1_700_000_000_000 // DAY * DAY
SETTLED = PATIENCE  # seconds


class Shop:
    """Produces embedded interactions, and knows what the trend has to be."""

    def __init__(self, system: System, bundle: Bundle) -> None:
        self.system = system
        self.bundle = bundle
        self.random = Random(1)
        numbers = np.random.default_rng(2).normal(size=(ITEMS, bundle.embedding_size)).astype(np.float32)
        self.codes = [quantize(row) for row in numbers]
        self.time = START
        self.sent = 0

    def event(self, user: int, kind: str) -> EmbeddedInteraction:
        self.sent += 1
        self.time += self.random.choice([0, 1000, DAY // 50])
        item = self.random.randrange(ITEMS)
        late = self.random.choice([0, 0, 0, 3 * DAY])
        pictured = kind in {"view", "cart", "purchase"}
        return EmbeddedInteraction(
            event_id=f"e{self.sent}", user_id=f"user-{user}", item_id="" if kind == "erase" else f"item-{item}",
            type=kind, timestamp=self.time - (0 if kind == "erase" else late),  # pyright: ignore[reportArgumentType]
            embedder_version=self.bundle.embedder_version if pictured else "",
            embedding=self.codes[item] if pictured else b"",
        )  # fmt: skip

    def some(self, count: int) -> list[EmbeddedInteraction]:
        kinds = ["purchase", "purchase", "view", "view", "cart", "return"]
        return [self.event(self.random.randrange(USERS), self.random.choice(kinds)) for _ in range(count)]

    def send(self, events: list[EmbeddedInteraction]) -> None:
        topic = self.system.named(EMBEDDED)

        async def produce() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.system.broker.bootstrap, linger_ms=5) as producer:
                sent = [await producer.send(topic, encode_embedded(one), one.user_id.encode()) for one in events]
                for one in sent:
                    await one

        asyncio.run(produce())

    def bags(self) -> dict[str, Bag]:
        """The bags of everything that was sent, from the topic."""
        bags: dict[str, Bag] = {}
        for record in asyncio.run(self.system.read(self.system.named(EMBEDDED))):
            one = parse_embedded(record.value)
            bag = bags.get(one.user_id, Bag())
            bags[one.user_id] = fold(bag, one, max_slots=MAX_SLOTS, kept={self.bundle.embedder_version})
        return bags

    def expected(self, bundle: Bundle | None = None) -> dict[int, list[int]]:
        return trend_of(self.bags().values(), bundle or self.bundle)

    def settle(self, bundle: Bundle | None = None) -> dict[int, list[int]]:
        """Wait until everything is folded and the topic has the trend of it. Returns that trend."""
        asyncio.run(self.system.settled("profile"))
        expected, labels = self.expected(bundle), (bundle or self.bundle).labels_version

        def there() -> bool:
            return total(self.snapshots(), labels) == expected

        wait_until(there, SETTLED, lambda: f"another trend\n{self.system.log()[-3000:]}")
        return expected

    def snapshots(self) -> dict[int, tuple[str, dict[int, list[int]]]]:
        return latest_rows(asyncio.run(self.system.read(self.system.named(TOPIC))))


def second(system: System, folder: Path, bundle: Path) -> System:
    """Settings and a folder of another worker."""
    folder.mkdir()
    return System(system.broker, folder, bundle=bundle, trend_interval=0.5)


def metric(system: System, name: str) -> float:
    lines = system.get("profile", "/metrics")[1].splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), math.nan)


@dataclass
class Story:
    """What happened."""

    bundle: Bundle
    published: list[float] = field(default_factory=list[float])  # snapshots, by worker
    followed_all: bool = False  # whether both workers have read the topic to its end
    partitions: set[int] = field(default_factory=set[int])
    after_load: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    after_kill: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    before_erasure: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    after_erasure: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    erased: int = 0
    healed: bool = False
    log: str = ""
    configs: dict[str, str] = field(default_factory=dict[str, str])
    records: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # offset, and items that all took
    followed: tuple[int | None, list[list[float]]] = (None, [])


@pytest.fixture(scope="module")
def story(system: System, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("trending")
    bundle = Bundle.load(write_trending(folder / "bundle"))
    system.configure(bundle=bundle.path, trend_interval=0.5)
    return play(system, second(system, folder / "second", bundle.path), Story(bundle))


def play(one: System, two: System, story: Story) -> Story:
    shop = Shop(one, story.bundle)
    processes = [one.launch("profile"), two.launch("profile")]
    try:
        for system, process in zip((one, two), processes, strict=True):
            system.wait_ready("profile", process)
        shop.send(shop.some(1500))
        story.after_load = shop.settle()
        story.partitions = set(shop.snapshots())
        wait_until(lambda: metric(one, "tastestream_trend_lag") == metric(two, "tastestream_trend_lag") == 0, SETTLED)
        story.followed_all = True
        story.published = [metric(system, "tastestream_trend_published_total") for system in (one, two)]

        shop.send(shop.some(300))
        os.kill(processes[1].pid, signal.SIGKILL)
        processes[1].wait()
        shop.send(shop.some(300))
        story.after_kill = shop.settle()

        processes[1] = two.launch("profile")
        two.wait_ready("profile", processes[1])
        shop.send(shop.some(300))
        story.before_erasure = shop.settle()
        users = sorted(shop.bags())
        shop.send([shop.event(int(user.removeprefix("user-")), "erase") for user in users[: len(users) // 10]])
        story.after_erasure = shop.settle()
        story.erased = sum(not bag.slots for bag in shop.bags().values())

        asyncio.run(intrude(one))
        story.healed = shop.settle() == story.after_erasure
        story.records = asyncio.run(history(one, story))
    finally:
        for process in processes:
            stop(process)
    story.log = one.log() + two.log()
    story.configs = asyncio.run(configs_of(one))
    return story


async def intrude(system: System) -> None:
    """Somebody else writes to the topic, and removes what a worker wrote."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for key, value in ((b"0", b"nonsense"), (b"1", None), (b"nobody", b"x"), (b"99", b"\x80"), (b"", b"\xc1" * 9)):
            await producer.send_and_wait(TOPIC, value, key, partition=0)


async def history(system: System, story: Story) -> list[tuple[int, int]]:
    """Follow the topic as a worker does, and compare with the history that the records make."""
    bundle = story.bundle
    records = await system.read(TOPIC)
    settings = read_settings(broker=system.broker.bootstrap)
    past = await read_history(settings, bundle.labels_version, len(bundle.categories))
    assert len(past.problems) == 4
    file = system.folder / "trend"
    follower = TrendFollower(settings, 4, bundle.labels_version, len(bundle.categories), file=file)
    following = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(SETTLED):
            await follower.caught_up.wait()
            while not file.exists():  # noqa: ASYNC110 -- a file sends no notice
                await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    trend = follower.current[1]
    assert trend.version is not None and trend.version >= records[-1].offset
    story.followed = trend.version, trend.at(START + 100 * DAY).tolist()
    next_start = TrendFollower(settings, 4, bundle.labels_version, len(bundle.categories), file=file).current[1]
    assert (next_start.version, next_start.at(START + 100 * DAY).tolist()) == story.followed
    moment = START + 100 * DAY
    assert past.at(records[-1].offset).at(moment).tolist() == trend.at(moment).tolist()
    return [(record.offset, round(float(past.at(record.offset).at(moment)[2].sum()))) for record in records]


async def create_again(system: System) -> None:
    """Delete the topic, and create an empty one of the same name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([TOPIC])
        async with asyncio.timeout(SETTLED):
            while TOPIC in await admin.list_topics():  # noqa: ASYNC110 -- Kafka sends no notice
                await asyncio.sleep(0.05)
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


async def configs_of(system: System) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        found: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)])
    finally:
        await admin.close()
    return {entry[0]: entry[1] for response in found for resource in response.resources for entry in resource[4]}


def test_the_topic_has_one_partition_and_keeps_replaced_snapshots_for_a_day(story: Story, system: System) -> None:
    assert len(asyncio.run(system.partitions(TOPIC))) == 1
    assert story.configs["cleanup.policy"] == "compact"
    assert story.configs["min.compaction.lag.ms"] == str(DAY)


def test_two_workers_publish_their_partitions_and_both_follow_all_of_them(story: Story) -> None:
    assert story.partitions == {0, 1, 2, 3}
    assert min(story.published) >= 1
    assert story.followed_all


def test_the_trend_is_the_sum_over_the_bags_after_load_a_kill_and_a_restart(story: Story) -> None:
    assert len(story.after_load) > 5
    assert story.after_load != story.after_kill != story.before_erasure


def test_an_erasure_of_a_tenth_of_all_users_takes_off_what_they_took(story: Story) -> None:
    assert story.erased == USERS // 10
    before, after = (sum(map(sum, rows.values())) for rows in (story.before_erasure, story.after_erasure))
    assert 0 < after < before


def test_records_of_others_are_passed_over_and_the_snapshots_are_written_again(story: Story) -> None:
    assert story.healed
    assert "of topic category-trend that cannot be used; the first: offset" in story.log


def test_the_history_grows_with_the_records_and_ends_with_what_a_worker_has(story: Story) -> None:
    counts = [count for _, count in story.records]
    assert counts[0] < max(counts)
    assert story.followed[0] is not None


def other_labels(bundle: Bundle, folder: Path) -> Path:
    """The same bundle, by whose labels each item belongs to other categories."""
    shutil.copytree(bundle.path, folder)
    arrays: dict[str, Any] = dict(np.load(folder / LABELS))
    arrays["weights"] = np.ascontiguousarray(arrays["weights"][::-1])
    np.savez(folder / LABELS, **arrays)
    content = json.loads((folder / MANIFEST).read_text()) | {"version": "other labels"}
    content["files"][LABELS] = file_sha256(folder / LABELS)
    content["checksum"] = content_checksum(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def test_a_bundle_with_other_labels_is_counted_anew_while_the_worker_runs(
    story: Story, system: System, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    plain, trending = Bundle.load().path, story.bundle.path
    other = Bundle.load(other_labels(story.bundle, tmp_path / "other"))
    assert other.labels_version != story.bundle.labels_version
    link.symlink_to(plain)
    system.configure(bundle=link)
    shop = Shop(system, story.bundle)
    shop.sent, shop.time = 10**6, START + 200 * DAY
    with system.worker("profile"):
        ends = asyncio.run(system.ends(TOPIC))
        shop.send(shop.some(50))
        asyncio.run(system.settled("profile"))
        assert asyncio.run(system.ends(TOPIC)) == ends, "a bundle without labels counts nothing"
        assert metric(system, "tastestream_trend_published_total") == 0
        for bundle in (story.bundle, other, story.bundle):
            (tmp_path / "new").symlink_to(bundle.path)
            (tmp_path / "new").replace(link)
            shop.send(shop.some(50))
            shop.settle(bundle)
        assert trending == story.bundle.path


def test_a_newer_day_brings_a_snapshot_at_once_and_a_day_ahead_counts_when_it_comes(
    story: Story, system: System
) -> None:
    """With an interval of an hour. The second day has two events, the third none, and a clock is a day ahead of the others."""
    system.configure(bundle=story.bundle.path, trend_interval=3600, namespace="days")
    shop, today = Shop(system, story.bundle), START // DAY + 10

    def bought(day: int, item: int) -> None:
        event = EmbeddedInteraction(
            event_id=f"{day}-{item}", user_id="ada", item_id=f"item-{item}", type="purchase", timestamp=day * DAY + 1,
            embedder_version=story.bundle.embedder_version, embedding=shop.codes[item],
        )  # fmt: skip
        shop.send([event])
        asyncio.run(system.settled("profile"))

    def published() -> list[list[int]]:
        """The days in each snapshot that is not empty."""
        records = asyncio.run(system.read(system.named(TOPIC)))
        days = [list(rows) for record in records for _, rows in latest_rows([record]).values()]
        return [some for some in days if some]

    with system.worker("profile"):
        wait_until(lambda: len(shop.snapshots()) == 4, SETTLED)
        expected: list[list[int]] = []
        for day, items in ((today, [0]), (today + 1, [1, 2]), (today + 4, [3]), (today + 3, [4]), (today + 5, [5])):
            for item in items:
                bought(day, item)
            if day == today + 4:  # a day ahead
                expected.append([today, today + 1, today + 4])
            elif day == today + 5:
                expected.append([today, today + 1, today + 3, today + 4, today + 5])
            elif day <= today + 1:
                expected.append([*range(today, day + 1)])
            wait_until(lambda: len(published()) >= len(expected), SETTLED)
            assert published() == expected
    settings = read_settings(broker=system.broker.bootstrap, namespace="days")
    labels, categories = story.bundle.labels_version, len(story.bundle.categories)
    history = asyncio.run(read_history(settings, labels, categories))
    last = history.at(10**6)
    fields = len(story.bundle.fields)
    counts = [round(float(last.at(moment)[0].sum()) / fields) for moment in range(today * DAY, (today + 7) * DAY, DAY)]
    assert counts == [0, 1, 3, 3, 4, 5, 6]


def test_a_topic_that_is_created_again_gets_all_snapshots_again(story: Story, system: System) -> None:
    system.configure(bundle=story.bundle.path, namespace="", trend_interval=0.5)
    shop = Shop(system, story.bundle)
    with system.worker("profile"):
        expected = shop.settle()
        asyncio.run(create_again(system))
        assert shop.settle() == expected
