"""The replica of the bags on real Kafka: it has what the profile worker has, whatever dies, and says how far behind it is."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from msgspec.structs import replace

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag
from streams.profile.rows import encode_bag, user_prefix
from streams.serve.interface import NotServed, State
from streams.serve.replica.replica import Replica
from streams.settings import read_settings
from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.system import System, stop, wait_until
from tests.kafka.test_trend import Shop
from tests.stored import bags_of, rows_on_disk
from tests.streams.profile.test_bag import event, fold_all

PARTITIONS = 4  # what System sets
SETTLED = 60.0  # seconds
ERASED = "user-7"


@asynccontextmanager
async def replica(system: System, folder: Path, **settings: Any) -> AsyncGenerator[Replica]:
    """A replica in this process."""
    made = Replica(read_settings(broker=system.broker.bootstrap, **settings), Bundles(Bundle.load()).row_bytes, folder)
    made.open()
    following = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        made.close()


async def until(condition: Callable[[], object], timeout: float = SETTLED) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 -- a state of the broker, which tells nobody
            await asyncio.sleep(0.05)


def live(found: list[State]) -> bool:
    return bool(found) and all(state.source == "live" for state in found)


def states(system: System) -> list[State]:
    """What /ready of the serve worker says of its partitions."""
    _, text = system.get("serve", "/ready")
    return [State(**one) for one in json.loads(text)["partitions"]] if text else []


def files_with(folder: Path, words: set[bytes]) -> dict[bytes, set[str]]:
    """The files of a worker that contain a word, by word. It runs: RocksDB moves rows to new files and removes the old ones."""

    def listed() -> set[Path]:
        return {path for path in folder.rglob("*") if path.is_file()}

    contents: dict[str, bytes] = {}
    paths: set[Path] | None = None
    while paths != listed():
        paths = listed()
        with suppress(FileNotFoundError):  # then the files are others already
            contents = {str(path): path.read_bytes() for path in paths}  # partitions have files of the same names
    return {word: names for word in words if (names := {name for name, text in contents.items() if word in text})}


class Played:
    """What a profile worker and a serve worker were left with."""

    def __init__(self) -> None:
        self.profile: dict[str, Bag] = {}
        self.serve: dict[str, Bag] = {}
        self.before_erasure: dict[bytes, set[str]] = {}
        self.after_erasure: dict[bytes, set[str]] = {}
        self.metrics = ""
        self.log = ""


@pytest.fixture(scope="module")
def played(system: System) -> Played:
    story, shop = Played(), Shop(system, Bundle.load())
    serve_folder = system._data / "serve" / "bags"
    caught_up = lambda: live(states(system))  # noqa: E731
    serve = system.launch("serve")  # before there is a topic
    try:
        with system.worker("profile"):
            shop.send(shop.some(800))
            system.wait_ready("serve", serve)
            shop.send([replace(shop.event(7, "view"), item_id="a-very-secret-item", event_id="secret-event")])
            asyncio.run(system.settled("profile"))
            wait_until(caught_up, SETTLED, system.log)
            words = {b"a-very-secret-item", b"secret-event"}
            wait_until(lambda: len(files_with(serve_folder, words)) == 2, SETTLED)
            story.before_erasure = files_with(serve_folder, words)
            shop.send(shop.some(500))
            os.kill(serve.pid, signal.SIGKILL)
            serve.wait()
            shop.send([*shop.some(300), shop.event(7, "erase")])
            serve = system.launch("serve")
            system.wait_ready("serve", serve)
            asyncio.run(system.settled("profile"))
            wait_until(caught_up, SETTLED, system.log)
            wait_until(
                lambda: not files_with(serve_folder, words), SETTLED, lambda: str(files_with(serve_folder, words))
            )
            story.after_erasure = files_with(serve_folder, words)
            story.metrics = system.get("serve", "/metrics")[1]
    finally:
        assert stop(serve) == 0, system.log()
    story.profile, story.serve = system.stored_bags(), bags_of(rows_on_disk(serve_folder))
    story.log = system.log()
    return story


def test_the_bags_are_those_of_the_profile_worker_also_after_a_kill(played: Played) -> None:
    assert len(played.profile) > 100
    assert played.serve == played.profile
    assert "Traceback" not in played.log


def test_an_erased_user_leaves_the_files_while_the_worker_runs(played: Played) -> None:
    assert played.before_erasure and not played.after_erasure
    assert played.serve[ERASED].floor is not None


def test_the_metrics_say_how_far_each_partition_is(played: Played) -> None:
    for partition in range(PARTITIONS):
        assert f'tastestream_replica_lag{{partition="{partition}"}} 0.0' in played.metrics
        assert f'tastestream_replica_age_seconds{{partition="{partition}"}} ' in played.metrics


async def test_an_event_is_waited_for_and_changes_are_told(system: System, played: Played, tmp_path: Path) -> None:
    shop = Shop(system, Bundle.load())
    shop.sent, shop.time = 10**6, shop.time + 10**9
    process = await asyncio.to_thread(system.launch, "profile")
    try:
        await asyncio.to_thread(system.wait_ready, "profile", process)
        async with replica(system, tmp_path) as bags:
            await asyncio.wait_for(bags.caught_up.wait(), SETTLED)
            assert {user: bags.read(user).bag for user in played.profile} == played.profile
            assert live(bags.states())
            one = shop.event(1, "view")
            async with bags.changes() as changes:
                assert not await bags.holds(one.user_id, one.event_id, 0.05)
                waiting = asyncio.create_task(bags.holds(one.user_id, one.event_id, SETTLED))
                await asyncio.to_thread(shop.send, [one])
                assert await waiting
                assert one.item_id in bags.read(one.user_id).bag.slots
                [change] = await anext(changes)
            held = bags.read(one.user_id)
            assert change == (one.user_id, held.state.partition, held.state.offset)
    finally:
        await asyncio.to_thread(stop, process)


async def test_it_answers_while_the_broker_is_away_and_says_so(system: System, played: Played, tmp_path: Path) -> None:
    user = next(user for user, bag in played.profile.items() if bag.slots)
    async with replica(system, tmp_path) as bags:
        await asyncio.wait_for(bags.caught_up.wait(), SETTLED)
        bag = bags.read(user).bag
    await asyncio.to_thread(system.broker.stop)
    try:
        async with replica(system, tmp_path) as bags:  # a restart without a broker
            assert bags.ready
            first = bags.read(user)
            assert first.bag == bag
            assert (first.state.source, first.state.lag) == ("stale", None)
            assert first.state.age is not None
            await until(lambda: (bags.read(user).state.age or 0) > (first.state.age or 0) + 0.5)
            await asyncio.to_thread(system.broker.start)
            await until(lambda: live(bags.states()))
            await asyncio.to_thread(system.broker.stop)
            await until(lambda: bags.read(user).state.source == "stale")
            assert bags.read(user).bag == bag
    finally:
        await asyncio.to_thread(system.broker.start)


async def create_again(system: System, partitions: int, bags: dict[str, Bag]) -> None:
    """Delete the changelog, create it again, and write some bags to it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([BAGS_CHANGELOG])
        async with asyncio.timeout(SETTLED):
            while True:
                topic = NewTopic(BAGS_CHANGELOG, partitions, 1, topic_configs={"cleanup.policy": "compact"})
                response: Any = await admin.create_topics([topic])
                if response.topic_errors[0][1] != TopicAlreadyExistsError.errno:
                    break
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        sent: list[Any] = []
        for user, bag in bags.items():
            for key, value in encode_bag(user, bag).items():
                partition = partition_of(user.encode(), partitions)
                sent.append(await producer.send(BAGS_CHANGELOG, value, key, partition=partition))
        for delivery in sent:
            await delivery


async def test_a_changelog_that_is_created_again_is_read_anew(system: System, played: Played, tmp_path: Path) -> None:
    """With other bags of the same users, over another number of partitions."""
    users = list(played.profile)[:60]
    made = {user: fold_all([event("view", number, f"{user}-{number}") for number in range(1, 12)]) for user in users}
    async with replica(system, tmp_path) as bags:
        await until(lambda: live(bags.states()))
        known = [made, {user: bags.read(user).bag for user in users}]
        await create_again(system, 2, made)
        mixed: list[str] = []

        def read_anew() -> bool:
            found = {user: bags.read(user).bag for user in users}
            mixed.extend(
                user for user, bag in found.items()
                if bag.slots and not any(bag.slots.items() <= one[user].slots.items() for one in known)
            )  # fmt: skip
            return found == made

        await until(read_anew)
        assert not mixed
        await until(lambda: live(bags.states()))
        assert [state.partition for state in bags.states()] == [0, 1]
    assert bags_of(rows_on_disk(tmp_path)) == made

    # While the replica is down, and with more records than it has read: only the id of the topic tells.
    made = {user: fold_all([event("cart", number, f"{user}-{number}") for number in range(1, 24)]) for user in users}
    await create_again(system, 2, made)
    async with replica(system, tmp_path, serve_partitions=(1,)) as bags:
        await until(lambda: live(bags.states()))
        inside = {user for user in users if partition_of(user.encode(), 2) == 1}
        for user in users:
            if user in inside:
                assert bags.read(user).bag == made[user]
            else:
                with pytest.raises(NotServed):
                    bags.read(user)
        first = user_prefix(min(inside, key=user_prefix))
        assert next(iter(bags.users_after(1, b"", 1)))[0].startswith(first)
    assert set(bags_of(rows_on_disk(tmp_path))) == inside
