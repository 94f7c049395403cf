"""Topics that change under the workers: re-created, deleted, with more or fewer partitions. All is read, and no bag is lost."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.protocol.metadata import MetadataRequest

from model.bundle import Bundle
from streams.kafka.metadata import DescribedTopic, topics_now
from streams.messages import parse_interaction
from streams.settings.names import BAGS_CHANGELOG, EMBED_GROUP
from tests.kafka.broker import KafkaBroker
from tests.kafka.conftest import clean
from tests.kafka.system import PATIENCE, READS, System
from tests.oracle import Oracle

INPUT, EMBEDDED = "user-interactions", "embedded-interactions"
PARTITIONS = 4  # what System sets
NOTICED = PATIENCE  # seconds within which a change is noticed
SETTLED = 2 * PATIENCE  # seconds until all is processed

Event = dict[str, Any]


@pytest.fixture
async def system(broker: KafkaBroker, tmp_path: Any) -> AsyncIterator[System]:
    """A system with its topics. Every test changes them, so each has its own."""
    made = System(broker, tmp_path)
    assert (await asyncio.to_thread(made.command, "topics")).returncode == 0
    yield made
    await clean(broker)


@pytest.fixture
async def admin(system: System) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await client.start()
    yield client
    await client.close()


def events(name: str, count: int) -> list[Event]:
    """Events that need no picture, of `count` users."""
    fields = {"item_id": "shoe", "type": "return", "timestamp": 1_700_000_000_000}
    return [{**fields, "user_id": f"user-{number}", "event_id": f"{name}-{number}"} for number in range(count)]


def of_item(item: str, some: Iterable[Event]) -> list[Event]:
    return [{**event, "item_id": item} for event in some]


def ids(*some: Iterable[Event]) -> set[str]:
    return {event["event_id"] for group in some for event in group}


async def delete(admin: AIOKafkaAdminClient, name: str) -> None:
    await admin.delete_topics([name])
    async with asyncio.timeout(PATIENCE):
        while name in await admin.list_topics():  # noqa: ASYNC110 -- the broker sends no notice
            await asyncio.sleep(0.1)


async def create(admin: AIOKafkaAdminClient, name: str, partitions: int, cleanup: str = "delete") -> None:
    async with asyncio.timeout(PATIENCE):
        while True:  # a deleted topic keeps its name for a moment
            response: Any = await admin.create_topics(
                [NewTopic(name, partitions, 1, topic_configs={"cleanup.policy": cleanup})]
            )
            if response.topic_errors[0][1] != TopicAlreadyExistsError.errno:
                assert response.topic_errors[0][1] == 0, response
                return
            await asyncio.sleep(0.1)


async def recreate(admin: AIOKafkaAdminClient, name: str, partitions: int = PARTITIONS) -> None:
    await delete(admin, name)
    await create(admin, name, partitions)


async def add_partitions(admin: AIOKafkaAdminClient, name: str, total: int) -> None:
    await admin.create_partitions({name: NewPartitions(total_count=total)})


async def until(condition: Callable[[], Any], timeout: float, what: Callable[[], str]) -> None:
    """Wait for a condition that may block."""
    deadline = time.monotonic() + timeout
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.2)


async def until_answered(system: System, wanted: set[str], timeout: float = SETTLED) -> None:
    """Wait until each of these events has a recommendation."""
    deadline = time.monotonic() + timeout
    while missing := wanted - {one["event_id"] for one in await system.recommendations()}:
        assert time.monotonic() < deadline, f"{len(missing)} events have no answer: {system.log()[-3000:]}"
        await asyncio.sleep(0.3)


async def answered(system: System, some: list[Event], timeout: float = SETTLED) -> None:
    """Produce events, and wait until each of them has a recommendation."""
    await system.produce(some)
    await until_answered(system, ids(some), timeout)


async def until_logged(system: System, text: str, timeout: float = NOTICED) -> None:
    await until(lambda: text in system.log(), timeout, lambda: f"not logged: {text!r}:\n{system.log()[-3000:]}")


def lines(system: System, text: str) -> list[str]:
    return [line for line in system.log().splitlines() if text in line]


def lag(system: System, kind: str) -> float:
    _, text = system.get(kind, "/metrics")
    return next((float(found) for found in re.findall(r"^tastestream_lag\{.*\} (\S+)$", text, re.MULTILINE)), -1.0)


def ready(system: System, kind: str) -> bool:
    return system.get(kind, "/ready")[0] == 200


def expected_bags(*some: Iterable[Event]) -> dict[str, Any]:
    parsed = [
        parse_interaction(System.encoded(event), now=time.time(), max_future=300.0, earliest=0)
        for group in some
        for event in group
    ]
    return Oracle(Bundle.load(), lambda _: b"").bags(parsed)


async def commit(system: System, group: str, tp: TopicPartition, offset: int, metadata: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=system.broker.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.commit({tp: OffsetAndMetadata(offset, metadata)})
    finally:
        await consumer.stop()


# -- the topic that a worker reads is another one


@pytest.mark.parametrize(
    "partitions",
    [pytest.param(PARTITIONS, id="as many partitions"), pytest.param(2, id="fewer partitions", marks=pytest.mark.slow)],
)
async def test_an_input_topic_that_is_re_created_under_the_worker_is_read_from_its_start(
    system: System, admin: AIOKafkaAdminClient, partitions: int
) -> None:
    first, second = events("first", 40), of_item("hat", events("second", 120))
    with system.workers():
        await answered(system, first)
        await recreate(admin, INPUT, partitions)
        await system.produce(second)  # more than was committed of the old topic
        await until_answered(system, ids(second), NOTICED + SETTLED)
        await until(lambda: lag(system, "embed") == 0 and ready(system, "embed"), NOTICED, system.log)
        assert len(lines(system, f"topic {INPUT} was deleted and created again")) == 1, system.log()
    assert system.stored_bags() == expected_bags(first, second)


async def test_an_input_topic_that_is_re_created_while_the_worker_is_down_is_read_from_its_start(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second = events("first", 40), of_item("hat", events("second", 120))
    with system.workers():
        await system.produce(first, partition=0)
        await until_answered(system, ids(first))
    tp = TopicPartition(INPUT, 0)
    [committed] = [
        one for partition, one in (await admin.list_consumer_group_offsets(EMBED_GROUP)).items() if partition == tp
    ]
    assert committed.offset == 40
    await recreate(admin, INPUT)
    await system.produce(second, partition=0)
    await commit(system, EMBED_GROUP, tp, *committed)  # a broker may keep it: the topic has the same name
    with system.workers():
        await until_answered(system, ids(second))
    assert system.stored_bags() == expected_bags(first, second)


async def test_a_group_that_has_committed_no_topic_id_keeps_its_offset(system: System) -> None:
    some = events("first", 10)
    await system.produce(some, partition=0)
    await commit(system, EMBED_GROUP, TopicPartition(INPUT, 0), 4, "")
    with system.workers():
        await until_answered(system, ids(some[4:]))
        await system.settled("embed")
    assert {one["event_id"] for one in await system.recommendations()} == ids(some[4:])


@pytest.mark.slow
async def test_a_deleted_topic_is_awaited(system: System, admin: AIOKafkaAdminClient) -> None:
    first, second = events("first", 40), of_item("hat", events("second", 80))
    with system.workers():
        await answered(system, first)
        workers = [system.worker_pid(kind) for kind in READS]
        await delete(admin, INPUT)
        await until(lambda: not ready(system, "embed"), NOTICED, system.log)
        await until(lambda: f"topic {INPUT} does not exist" in system.get("embed", "/ready")[1], NOTICED, system.log)
        assert lag(system, "embed") == -1
        await asyncio.sleep(60)  # longer than a stall time-out would be
        assert INPUT not in await admin.list_topics()
        assert [system.worker_pid(kind) for kind in READS] == workers, system.log()
        assert len(lines(system, f"topic {INPUT} does not exist")) == 1, system.log()
        assert ready(system, "profile")
        await create(admin, INPUT, 6)
        await answered(system, second, NOTICED + SETTLED)
        await until(lambda: lag(system, "embed") == 0 and ready(system, "embed"), NOTICED, system.log)
    assert system.stored_bags() == expected_bags(first, second)


@pytest.mark.slow
async def test_a_re_created_topic_of_embedded_interactions_is_read_from_its_start(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second = events("first", 40), of_item("hat", events("second", 120))
    with system.workers():
        await answered(system, first)
        await recreate(admin, EMBEDDED)
        await answered(system, second, NOTICED + SETTLED)
    assert system.stored_bags() == expected_bags(first, second)


# -- more partitions


async def test_partitions_that_are_added_to_the_input_are_read(system: System, admin: AIOKafkaAdminClient) -> None:
    some = events("first", 60)
    with system.workers():
        await system.produce(some[:20])
        await until_answered(system, ids(some[:20]))
        await add_partitions(admin, INPUT, 6)
        await system.produce(some[20:40], partition=4)
        await system.produce(some[40:], partition=5)
        await until_answered(system, ids(some), NOTICED)
    assert system.stored_bags() == expected_bags(some)


@pytest.mark.slow
async def test_partitions_that_are_added_to_embedded_interactions_change_no_bag(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second, third = events("a", 60), of_item("hat", events("b", 200)), of_item("sock", events("c", 200))
    with system.workers():
        await answered(system, first)
        await add_partitions(admin, EMBEDDED, 6)
        await until_logged(system, f"topic {EMBEDDED} has 6 partitions")
        await system.produce(second)
        await until_answered(system, ids(first, second))
        for kind in READS:
            await until(lambda kind=kind: lag(system, kind) == 0 and ready(system, kind), NOTICED, system.log)
    assert "ended with code" not in system.log()
    assert system.stored_bags() == expected_bags(first, second)
    system.remove_data()
    before = len(lines(system, f"topic {EMBEDDED} has 6 partitions"))
    with system.workers():
        await answered(system, third)
    assert len(lines(system, f"topic {EMBEDDED} has 6 partitions")) > before
    assert system.stored_bags() == expected_bags(first, second, third)


@pytest.mark.slow
async def test_events_that_an_earlier_version_has_put_into_the_added_partitions_come_out(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second = events("a", 60), of_item("hat", events("b", 60))
    await add_partitions(admin, EMBEDDED, 6)
    with system.workers():
        await answered(system, first)
        with_embedding = await system.read(EMBEDDED)
        assert {record.partition for record in with_embedding} == set(range(PARTITIONS))
        async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
            for record in with_embedding:
                assert record.value is not None
                value = record.value.replace(b"shoe", b"hats").replace(b"a-", b"b-")
                await producer.send_and_wait(EMBEDDED, value, key=record.key)  # over six partitions
        await until_answered(system, ids(second))
    assert system.stored_bags() == expected_bags(first, of_item("hats", second))


# -- the changelog has another number of partitions


@pytest.mark.slow
async def test_partitions_that_are_added_to_the_changelog_change_no_bag(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second, third = events("a", 60), of_item("hat", events("b", 200)), of_item("sock", events("c", 200))
    with system.workers():
        await answered(system, first)
        await add_partitions(admin, BAGS_CHANGELOG, 6)
        await until_logged(system, f"topic {BAGS_CHANGELOG} has 6 partitions")
        await answered(system, second)
    assert "ended with code" not in system.log()
    with system.workers():
        await answered(system, third)
    assert system.stored_bags() == expected_bags(first, second, third)


@pytest.mark.slow
async def test_a_smaller_topic_of_embedded_interactions_is_refused_with_the_step_that_loses_nothing(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second = events("a", 60), of_item("hat", events("b", 200))
    with system.workers():
        await answered(system, first)
    await recreate(admin, EMBEDDED, 2)
    for kind in READS:
        done = await asyncio.to_thread(system.command, "worker", kind)
        assert done.returncode == 78
        [line] = done.stderr.splitlines()
        assert f"--alter --topic {EMBEDDED} --partitions {PARTITIONS}" in line
        assert "delete" not in line
    await add_partitions(admin, EMBEDDED, PARTITIONS)
    with system.workers():
        await answered(system, second)
    assert system.stored_bags() == expected_bags(first, second)


@pytest.mark.slow
async def test_partitions_that_are_added_to_both_topics_change_no_bag(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    """The numbers are equal then. The workers still know the number at which the bags began."""
    first, second = events("a", 60), of_item("hat", events("b", 200))
    with system.workers():
        await answered(system, first)
        await system.settled()
    for name in (EMBEDDED, BAGS_CHANGELOG):
        await add_partitions(admin, name, 6)
    with system.workers():
        await answered(system, second)
    assert system.stored_bags() == expected_bags(first, second)
    assert {record.partition for record in await system.read(BAGS_CHANGELOG)} == set(range(PARTITIONS))


@pytest.mark.slow
async def test_two_profile_workers_share_a_topic_with_added_partitions(
    system: System, admin: AIOKafkaAdminClient, tmp_path: Any
) -> None:
    some = events("a", 200)
    await add_partitions(admin, EMBEDDED, 7)
    other = System(system.broker, tmp_path / "other")
    other.folder.mkdir()
    with system.worker("embed"), system.worker("profile"), other.worker("profile"):
        await answered(system, some)
    assert system.stored_bags() | other.stored_bags() == expected_bags(some)
    assert 0 < len(other.stored_bags()) < len(some)  # the worker that stops last may have taken over its partitions
    assert system.stored_bags()


@pytest.mark.slow
async def test_a_topic_of_embedded_interactions_that_becomes_smaller_ends_the_profile_worker_with_the_step(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    with system.worker("profile") as process:
        await recreate(admin, EMBEDDED, 2)
        await until(lambda: process.poll() is not None, NOTICED, system.log)
    assert process.returncode == 78
    assert f"--alter --topic {EMBEDDED} --partitions {PARTITIONS}" in system.log()


@pytest.mark.slow
async def test_a_deleted_changelog_makes_the_profile_worker_wait(system: System, admin: AIOKafkaAdminClient) -> None:
    with system.worker("profile"):
        worker = system.worker_pid("profile")
        await delete(admin, BAGS_CHANGELOG)
        missing = f"topic {BAGS_CHANGELOG} does not exist"
        await until(lambda: missing in system.get("profile", "/ready")[1], NOTICED, system.log)
        assert lag(system, "profile") == -1
        await create(admin, BAGS_CHANGELOG, PARTITIONS)
        await until(lambda: ready(system, "profile"), NOTICED, system.log)
        assert system.worker_pid("profile") == worker


@pytest.mark.slow
async def test_a_changelog_that_is_re_created_under_the_worker_has_every_bag_that_is_on_disk(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    first, second = events("a", 200), of_item("hat", events("b", 40))
    with system.workers():
        await answered(system, first)
        await system.settled()
        await delete(admin, BAGS_CHANGELOG)
        await create(admin, BAGS_CHANGELOG, PARTITIONS, cleanup="compact")
        await answered(system, second, NOTICED + SETTLED)
        await system.settled()
    assert system.stored_bags() == expected_bags(second), system.log()
    system.remove_data()
    with system.workers():
        await until(lambda: ready(system, "profile"), SETTLED, system.log)
    assert system.stored_bags() == expected_bags(second)


@pytest.mark.slow
async def test_bags_of_a_changelog_that_was_re_created_while_their_worker_was_down_are_dropped(
    system: System, admin: AIOKafkaAdminClient
) -> None:
    """Another worker has written more rows since than the disk holds, so that the offsets do not show it."""
    first, second = events("a", 20), of_item("hat", events("b", 200))
    with system.workers():
        await answered(system, first)
        await system.settled()
    await delete(admin, BAGS_CHANGELOG)
    await create(admin, BAGS_CHANGELOG, PARTITIONS, cleanup="compact")
    system.configure(data_dir=system.folder / "other")
    with system.workers():
        await answered(system, second)
        await system.settled()
    system.configure(data_dir=system.folder / "data")
    with system.workers():
        await until(lambda: ready(system, "profile"), SETTLED, system.log)
    assert "the topic was re-created; recovering from it" in system.log()
    assert system.stored_bags() == expected_bags(second)


# -- what the broker says


async def test_a_broker_without_topic_ids_gives_the_numbers_of_partitions(system: System) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        client = producer.client
        assert await client.ready(client.get_random_node())
        with_ids = await topics_now(client, [INPUT, "of-nobody"])
        for connection in client._conns.values():
            connection._versions[MetadataRequest.API_KEY] = (0, 8)  # as Kafka 2.3 answers
        without = await topics_now(client, [INPUT, "of-nobody"])
    assert with_ids == {INPUT: DescribedTopic(PARTITIONS, with_ids[INPUT].id)}
    assert len(with_ids[INPUT].id) == 36
    assert without == {INPUT: DescribedTopic(PARTITIONS, "")}
