"""`tastestream topics`, and the check at each start: missing topics are created, and one that cannot work is refused by name."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.system import PATIENCE, System

EXPECTED = {
    "user-interactions": "delete",
    "items": "compact",
    "embedded-interactions": "delete",
    BAGS_CHANGELOG: "compact",
    "user-recommendations": "compact",
    "user-interactions-dlq": "delete",
    "category-trend": "compact",
}
PARTITIONS = 4  # what System sets
COUNTS = dict.fromkeys(EXPECTED, PARTITIONS) | {"category-trend": 1}


@pytest.fixture
def empty(system: System) -> Iterator[System]:
    """A broker without our topics."""
    yield system
    asyncio.run(delete_topics(system, list(EXPECTED)))


async def described(system: System) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions and configuration of each of our topics at the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        counts = {
            one["topic"]: len(one["partitions"]) for one in await admin.describe_topics() if one["topic"] in EXPECTED
        }
        found: dict[str, tuple[int, dict[str, str]]] = {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]
        responses: list[Any] = await admin.describe_configs(resources)
        for response in responses:
            for resource in response.resources:
                found[resource[3]] = (counts[resource[3]], {entry[0]: entry[1] for entry in resource[4]})
        return found
    finally:
        await admin.close()


async def create_topic(system: System, name: str, partitions: int, **configs: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
    finally:
        await admin.close()


async def delete_topics(system: System, names: list[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(names)
        async with asyncio.timeout(PATIENCE):
            while set(names) & set(await admin.list_topics()):  # noqa: ASYNC110 -- the broker sends no notice
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


def rows(printed: str) -> dict[str, str]:
    """The lines of the printed table, by topic."""
    lines = [line.strip("│ ") for line in printed.splitlines()]
    return {line.split()[0]: line for line in lines if line}


def test_all_topics_are_created_once_and_exist_from_then_on(empty: System) -> None:
    first, second = empty.command("topics"), empty.command("topics")
    found = asyncio.run(described(empty))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert {name: count for name, (count, _) in found.items()} == COUNTS
    assert {name: configs["cleanup.policy"] for name, (_, configs) in found.items()} == EXPECTED
    assert int(found["user-interactions-dlq"][1]["retention.ms"]) == 90 * 86_400_000
    for name in EXPECTED:
        assert rows(first.stdout)[name].endswith("created"), first.stdout
        assert rows(second.stdout)[name].endswith("exists"), second.stdout
        assert f" {COUNTS[name]} " in rows(second.stdout)[name]


def test_a_changelog_is_created_with_as_many_partitions_as_the_topic_it_belongs_to(empty: System) -> None:
    asyncio.run(create_topic(empty, "embedded-interactions", 6))
    assert empty.command("topics").returncode == 0
    found = asyncio.run(described(empty))
    assert found[BAGS_CHANGELOG][0] == 6
    assert found["user-interactions"][0] == PARTITIONS, "the other topics may have another number"


def test_a_topic_of_events_with_more_partitions_than_the_changelog_works_and_is_named(empty: System) -> None:
    asyncio.run(create_topic(empty, "embedded-interactions", 4))
    prompt = {"segment_ms": "86400000", "max_compaction_lag_ms": "86400000"}
    asyncio.run(create_topic(empty, BAGS_CHANGELOG, 3, cleanup_policy="compact", **prompt))
    done = empty.command("topics")
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert "topic embedded-interactions has 4 partitions, but the bags are in 3" in line


@pytest.mark.parametrize("name", ["user-interactions", "embedded-interactions"])
def test_a_compacted_topic_of_events_is_refused_by_name(empty: System, name: str) -> None:
    asyncio.run(create_topic(empty, name, 4, cleanup_policy="compact"))
    done = empty.command("topics")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"topic {name} has cleanup.policy=compact, which would drop events" in line
    assert set(asyncio.run(described(empty))) == {name}, "no other topic is created"


def test_a_changelog_that_deletes_is_refused_by_name(empty: System) -> None:
    asyncio.run(create_topic(empty, BAGS_CHANGELOG, 4, cleanup_policy="delete"))
    done = empty.command("topics")
    assert done.returncode == 1
    assert f"topic {BAGS_CHANGELOG} has cleanup.policy=delete, which would drop users" in done.stderr


def test_more_replicas_than_brokers_are_refused_with_the_message_of_the_broker(empty: System) -> None:
    empty.configure(replication_factor=3)
    done = empty.command("topics")
    empty.configure(replication_factor=1)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "topic user-interactions with 4 partitions and replication factor 3 could not be created" in line


def test_a_topic_of_items_that_the_broker_does_not_create_is_named_and_stops_nothing(empty: System) -> None:
    asyncio.run(create_topic(empty, "my_items", 1))
    empty.configure(items_topic="my.items")  # Kafka refuses it beside the other: the names of their metrics are one
    done = empty.command("topics")
    empty.configure(items_topic="items")
    asyncio.run(delete_topics(empty, ["my_items"]))
    assert done.returncode == 0, done.stderr
    [line] = done.stderr.splitlines()
    assert "topic my.items with 4 partitions and replication factor 1 could not be created" in line
    assert "going on without it" in line
    assert rows(done.stdout)["my.items"].endswith("missing"), done.stdout
    assert rows(done.stdout)["user-recommendations"].endswith("created"), done.stdout


def test_an_unreachable_broker_ends_with_code_69(empty: System) -> None:
    here = empty.environment["TASTESTREAM_BROKER"]
    empty.configure(broker="127.0.0.1:1", broker_timeout=1)
    done = empty.command("topics")
    empty.configure(broker=here, broker_timeout=60)
    assert done.returncode == 69
    assert "no broker at 127.0.0.1:1 within 1 s" in done.stderr.splitlines()[-1]


def test_a_topic_that_keeps_records_for_another_time_is_named_and_set(empty: System) -> None:
    forever = str(2**63 - 1)
    asyncio.run(
        create_topic(empty, "user-recommendations", PARTITIONS, cleanup_policy="compact", max_message_bytes="2000000")
    )
    asyncio.run(create_topic(empty, "user-interactions", PARTITIONS, retention_ms="1000000", segment_ms="60000"))
    seen = empty.command("topics")
    assert seen.returncode == 0
    assert f"user-recommendations: max.compaction.lag.ms is {forever}; --apply sets 86400000" in seen.stdout
    assert "user-interactions: retention.ms is 1000000; --apply sets 7776000000" in seen.stdout
    assert "user-interactions: segment.ms" not in seen.stdout, "a shorter one is right"
    assert "`tastestream topics --apply` sets it" in seen.stderr

    done = empty.command("topics", "--apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert "user-interactions: retention.ms set to 7776000000, was 1000000" in done.stdout
    found = asyncio.run(described(empty))
    assert found["user-recommendations"][1]["max.compaction.lag.ms"] == "86400000"
    assert found["user-recommendations"][1]["max.message.bytes"] == "2000000", "what is not named stays"
    assert found["user-interactions"][1]["retention.ms"] == "7776000000"
    assert empty.command("topics").stdout.count("--apply") == 0
