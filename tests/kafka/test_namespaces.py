"""Installations that share a cluster: each has its own namespace, and none touches what belongs to another."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

import streams
from streams.settings.names import BAGS_CHANGELOG, EMBED_GROUP, PROFILE_GROUP
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import clean
from tests.kafka.system import System, picture_server, wait_until

MISCONFIGURED = 78  # EX_CONFIG of sysexits.h
CATALOGUE = Path(streams.__file__).parent / "demo" / "catalogue"
ITEMS = ("pink-orchid", "bonsai-tree", "tennis-ball", "red-boxing-gloves", "wooden-bar-stool")

ALL_NAMES_BY_HAND = {
    "interactions_topic": "b-in",
    "embedded_topic": "b-embedded",
    "recommendations_topic": "b-out",
    "dlq_topic": "b-dlq",
}


@pytest.fixture(autouse=True)
def empty(broker: KafkaBroker) -> Iterator[None]:
    """No topics and no offsets after each test."""
    yield
    asyncio.run(clean(broker))


def purchases(shop: str, pictures: str, count: int) -> list[dict[str, Any]]:
    """Purchases of five users. Users and items have the same names in every shop; the ids of the events tell them apart."""
    return [
        {
            "event_id": f"{shop}-{number}",
            "user_id": f"user-{number % 5}",
            "item_id": ITEMS[number % len(ITEMS)],
            "type": "purchase",
            "timestamp": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
            "image_url": f"{pictures}/{ITEMS[number % len(ITEMS)]}.jpg",
        }
        for number in range(count)
    ]


def returns(shop: str, count: int) -> list[dict[str, Any]]:
    """Events that need no picture."""
    return [
        {"event_id": f"{shop}-{number}", "user_id": f"user-{number}", "item_id": "1", "type": "return", "timestamp": 1_700_000_000_000}
        for number in range(count)
    ]  # fmt: skip


async def answered(system: System) -> list[str]:
    """The ids of the events that have a recommendation, sorted."""
    return sorted(one["event_id"] for one in await system.recommendations())


def the_one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The only line that a command printed on standard error."""
    assert done.returncode == code, done.stderr
    [line] = done.stderr.splitlines()
    return line


async def topics(broker: KafkaBroker) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        return {topic for topic in await admin.list_topics() if not topic.startswith("__")}
    finally:
        await admin.close()


async def groups(broker: KafkaBroker) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        return {group for group, *_ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


async def commit(broker: KafkaBroker, group: str, topic: str, offset: int = 0) -> None:
    """Commit an offset, as a member of the group does that read the topic earlier."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        await consumer.commit({tp: OffsetAndMetadata(offset, "")})
    finally:
        await consumer.stop()


# Side by side


async def test_two_installations_side_by_side_answer_their_own_events_and_no_others(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    shops = [System(broker, tmp_path / name, namespace=name) for name in ("a", "b")]
    for shop, partitions in zip(shops, (2, 5), strict=True):
        shop.folder.mkdir()
        shop.configure(partitions=partitions)
    with picture_server(CATALOGUE) as pictures, shops[0].workers(), shops[1].workers():
        for shop in shops:
            await shop.produce(purchases(shop.named("event"), pictures, 40))
        for shop in shops:
            await shop.settled()
        for shop in shops:
            assert await answered(shop) == sorted(
                one["event_id"] for one in purchases(shop.named("event"), pictures, 40)
            )
            assert await shop.read(shop.named("user-interactions-dlq")) == []
    bags = [shop.stored_bags() for shop in shops]
    assert bags[0].keys() == bags[1].keys() == {f"user-{number}" for number in range(5)}
    assert [len(await shops[0].partitions(f"{name}-{BAGS_CHANGELOG}")) for name in ("a", "b")] == [2, 5]


@pytest.mark.slow
async def test_a_namespace_and_an_installation_without_one_share_a_data_folder_and_not_its_files(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    shop = System(broker, tmp_path)
    with shop.workers():
        await shop.produce(returns("plain", 30))
        await shop.settled()
    shop.configure(namespace="shop")
    with shop.workers():
        await shop.produce(returns("shop", 50)[30:])
        await shop.settled()
    assert shop.stored_bags().keys() == {f"user-{number}" for number in range(30, 50)}
    assert await answered(shop) == sorted(f"shop-{number}" for number in range(30, 50))


# Refusals


@pytest.mark.parametrize("kind", ["embed", "profile"])
async def test_a_group_whose_members_run_on_other_topics_is_refused(
    broker: KafkaBroker, tmp_path: Path, kind: str
) -> None:
    first, second = System(broker, tmp_path / "a"), System(broker, tmp_path / "b", **ALL_NAMES_BY_HAND)
    for shop, partitions in ((first, 4), (second, 2)):
        shop.folder.mkdir()
        shop.configure(partitions=partitions)
    with first.workers():
        line = the_one_line(second.command("worker", kind), MISCONFIGURED)
        await first.produce(returns("a", 40))
        await first.settled()
    if kind == "embed":
        assert f"group {EMBED_GROUP} belongs to running workers that read user-interactions, " in line
        assert "but TASTESTREAM_INTERACTIONS_TOPIC is b-in; set TASTESTREAM_NAMESPACE" in line
    else:
        assert f"group {PROFILE_GROUP} with its changelog {BAGS_CHANGELOG} belongs to running workers" in line
        assert "read embedded-interactions, but TASTESTREAM_EMBEDDED_TOPIC is b-embedded; " in line
    assert await answered(first) == sorted(f"a-{number}" for number in range(40))
    assert not await topics(broker) & set(ALL_NAMES_BY_HAND.values()), "nothing is created"


@pytest.mark.slow
async def test_an_installation_that_shares_only_the_input_topic_takes_no_events_from_the_other(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    first, second = System(broker, tmp_path / "a"), System(broker, tmp_path / "b", embedded_topic="b-embedded")
    for shop in (first, second):
        shop.folder.mkdir()
    with first.workers():
        line = the_one_line(second.command("worker", "embed"), MISCONFIGURED)
        assert f"group {PROFILE_GROUP} with its changelog {BAGS_CHANGELOG} belongs to running workers" in line
        assert "TASTESTREAM_EMBEDDED_TOPIC is b-embedded" in line


@pytest.mark.slow
async def test_a_topic_that_is_renamed_while_the_group_stays_is_refused_until_the_group_is_moved(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    shop = System(broker, tmp_path)
    with shop.workers():
        await shop.produce(returns("a", 20))
        await shop.settled()
    shop.configure(**ALL_NAMES_BY_HAND)
    for command, code in ((("worker", "embed"), MISCONFIGURED), (("topics",), 1)):
        line = the_one_line(shop.command(*command), code)
        assert f"group {EMBED_GROUP} belongs to user-interactions, but TASTESTREAM_INTERACTIONS_TOPIC is b-in" in line
    line = the_one_line(shop.command("worker", "profile"), MISCONFIGURED)
    assert f"{PROFILE_GROUP} with its changelog {BAGS_CHANGELOG} belongs to embedded-interactions" in line
    assert f"--group {PROFILE_GROUP} --delete-offsets --topic embedded-interactions" in line
    assert not await topics(broker) & set(ALL_NAMES_BY_HAND.values()), "nothing is created"

    for group, topic in ((EMBED_GROUP, "user-interactions"), (PROFILE_GROUP, "embedded-interactions")):
        broker.console("groups", "--group", group, "--delete-offsets", "--topic", topic)
    with shop.workers():
        pass
    assert shop.stored_bags().keys() == {f"user-{number}" for number in range(20)}, "the bags moved too"


@pytest.mark.slow
async def test_a_topic_that_was_deleted_and_created_again_is_not_refused(broker: KafkaBroker, tmp_path: Path) -> None:
    shop = System(broker, tmp_path)
    with shop.workers():
        await shop.produce(returns("a", 20))
        await shop.settled()
    await clean(broker)
    assert shop.command("topics").returncode == 0
    with shop.workers():
        await shop.produce(returns("b", 20))
        await shop.settled()
    assert await answered(shop) == sorted(f"b-{number}" for number in range(20))


async def test_a_group_that_reads_this_topic_and_another_is_not_refused(broker: KafkaBroker, tmp_path: Path) -> None:
    shop = System(broker, tmp_path)
    assert shop.command("topics").returncode == 0
    await commit(broker, EMBED_GROUP, "user-interactions")
    await commit(broker, EMBED_GROUP, "user-recommendations")
    assert shop.command("topics").returncode == 0


# Prefix ACLs

PASSWORD = "secret"  # noqa: S105
RIGHTS = {
    "shop": ("Read", "Write", "Create", "DescribeConfigs"),
    "lean": ("Read", "Write", "DescribeConfigs"),  # somebody else creates its topics
}
READER = "reader"  # of the bags of `lean` only
CREATOR = "creator"  # of topics, without a right to any group


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker on which a user may use the names that begin with its own name and a hyphen, and nothing else."""
    folder = tmp_path_factory.mktemp("guarded") / "broker"
    with KafkaBroker(folder, brief=True, users=dict.fromkeys((*RIGHTS, READER, CREATOR), PASSWORD)) as broker:
        changelog = f"lean-{BAGS_CHANGELOG}"
        broker.console(
            "acls", "--add", "--allow-principal", f"User:{READER}", "--topic", changelog, "--operation", "Read"
        )
        for user, rights in RIGHTS.items():
            allow = ("--add", "--allow-principal", f"User:{user}", "--resource-pattern-type", "prefixed")
            operations = [word for right in rights for word in ("--operation", right)]
            broker.console("acls", *allow, "--topic", f"{user}-", *operations)
            broker.console("acls", *allow, "--group", f"{user}-", "--operation", "Read")
        yield broker


def of_user(user: str, broker: KafkaBroker, folder: Path, namespace: str) -> System:
    """An installation whose workers and commands connect as the user. The test's own clients may do everything."""
    system = System(broker, folder, namespace=namespace)
    system.configure(
        broker=broker.users_bootstrap, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN",
        sasl_username=user, sasl_password=PASSWORD,
    )  # fmt: skip
    return system


@pytest.mark.parametrize("user", ["shop", pytest.param("lean", marks=pytest.mark.slow)])
async def test_an_installation_works_with_rights_to_the_names_of_its_namespace_only(
    guarded: KafkaBroker, tmp_path: Path, user: str
) -> None:
    shop = of_user(user, guarded, tmp_path, namespace=user)
    if user == "lean":
        assert System(guarded, tmp_path, namespace=user).command("topics").returncode == 0
    with picture_server(CATALOGUE) as pictures:
        with shop.workers():
            await shop.produce([*purchases("a", pictures, 20), b"not JSON"])
            await shop.settled()
        with shop.workers():
            await shop.produce(purchases("b", pictures, 20))
            await shop.settled()
    assert await answered(shop) == sorted(f"{name}-{number}" for name in "ab" for number in range(20))
    assert "invalid_json" in shop.command("dlq", "list").stdout
    prefixes = tuple(f"{user}-" for user in RIGHTS)
    assert all(name.startswith(prefixes) for name in await topics(guarded) | await groups(guarded))


@pytest.mark.parametrize("kind", ["embed", "profile"])
def test_a_namespace_that_the_acls_do_not_allow_is_refused_by_name(
    guarded: KafkaBroker, tmp_path: Path, kind: str
) -> None:
    stranger = of_user("shop", guarded, tmp_path, namespace="other")
    line = the_one_line(stranger.command("worker", kind), MISCONFIGURED)
    assert "topic other-tastestream-generations, which says what internal topics are in use, may not be read" in line
    assert "TASTESTREAM_NAMESPACE" in line


def test_a_serve_worker_needs_the_right_to_read_the_changelog_and_no_other(
    guarded: KafkaBroker, tmp_path: Path
) -> None:
    assert System(guarded, tmp_path, namespace="lean").command("topics").returncode == 0
    system = of_user(READER, guarded, tmp_path, namespace="lean")

    def sources() -> list[str]:
        return [one["source"] for one in json.loads(system.get("serve", "/ready")[1])["partitions"]]

    with system.worker("serve"):
        wait_until(lambda: sources() == ["live"] * 4, message=lambda: str(sources()))


def test_creating_topics_needs_no_right_to_the_groups(guarded: KafkaBroker, tmp_path: Path) -> None:
    user = ("--allow-principal", f"User:{CREATOR}", "--resource-pattern-type", "prefixed", "--topic", "new-")
    guarded.console("acls", "--add", *user, *(f"--operation={one}" for one in ("Read", "Create", "DescribeConfigs")))
    creator = of_user(CREATOR, guarded, tmp_path, namespace="new")
    assert creator.command("topics").returncode == 0


def test_a_topic_that_cannot_be_created_is_named(guarded: KafkaBroker, tmp_path: Path) -> None:
    stranger = of_user(READER, guarded, tmp_path, namespace="strange")
    guarded.console(
        "acls",
        "--add",
        "--allow-principal",
        f"User:{READER}",
        "--topic",
        "strange-tastestream-generations",
        "--operation=Read",
    )
    line = the_one_line(stranger.command("topics"), 1)
    assert line.startswith(
        "error: topic strange-user-interactions with 4 partitions and replication factor 1 could not be"
    )
