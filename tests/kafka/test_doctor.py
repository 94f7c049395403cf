"""`tastestream doctor` on broken set-ups of real Kafka: each problem is named, and the fix that is printed works."""

import asyncio
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pydantic import SecretStr

from streams.doctor.diagnosis import diagnose
from streams.doctor.finding import Finding
from streams.doctor.topics import needed
from streams.kafka.partitioning import partition_of
from streams.kafka.topics import ensure_topics
from streams.profile.rows import slot_key
from streams.runtime.process import MISCONFIGURED
from streams.settings import Settings, read_settings
from tests.kafka.broker import KafkaBroker, free_port
from tests.kafka.conftest import clean
from tests.kafka.system import PATIENCE, System, wait_until
from tests.kafka.test_topics import create_topic

DAY = "86400000"
AHEAD = (3.0, 15.0, 60.0)  # seconds: the next one if the machine was so busy that the clock has reached the one before


@pytest.fixture(autouse=True)
def empty(system: System) -> Iterator[None]:
    """No topics and no offsets after each test."""
    yield
    asyncio.run(clean(system.broker))


def settings_for(system: System, **others: Any) -> Settings:
    values: dict[str, Any] = {
        "broker": system.broker.bootstrap, "data_dir": system.folder, "partitions": 2, "broker_timeout": PATIENCE,
        "embed_port": 0, "profile_port": 0, "serve_port": 0, **others,
    }  # fmt: skip
    return read_settings(**values)


def wrong(settings: Settings) -> list[Finding]:
    """What is not right."""

    async def look() -> list[Finding]:
        return [finding async for finding in diagnose(settings) if finding.level != "ok"]

    return asyncio.run(look())


def create_topics(system: System, **others: Any) -> None:
    """As `tastestream topics` does, without a process of its own."""
    asyncio.run(ensure_topics(settings_for(system, **others), trend=True))


def run_fix(broker: KafkaBroker, fix: str) -> None:
    """Run a line of Kafka's tools, as printed."""
    script, *arguments = shlex.split(fix)
    tool = script.removeprefix("kafka-").removesuffix(".sh")
    assert arguments[:2] == ["--bootstrap-server", "BROKER"]
    broker.console(tool, *arguments[2:])


def test_missing_topics_are_named_and_the_command_of_the_fix_makes_all_well(system: System) -> None:
    [finding] = wrong(settings_for(system))
    assert finding.fact.startswith("missing: user-interactions, ")
    system.configure(partitions=2)
    assert system.command(*shlex.split(finding.fix)[1:]).returncode == 0
    assert wrong(settings_for(system)) == []


def test_a_wrong_clean_up_policy_is_named_and_the_command_of_the_fix_sets_it(system: System) -> None:
    times = {"retention_ms": "7776000000", "segment_ms": DAY}
    asyncio.run(create_topic(system, "user-interactions", 2, cleanup_policy="compact", **times))
    finding = next(one for one in wrong(settings_for(system)) if one.check == "topics" and "cleanup" in one.fact)
    run_fix(system.broker, finding.fix)
    create_topics(system)
    assert wrong(settings_for(system)) == []


def test_a_retention_that_differs_is_named_and_the_command_of_the_fix_sets_it(system: System) -> None:
    create_topics(system)
    changed = settings_for(system, interactions_retention=3600)
    [finding] = wrong(changed)
    assert (finding.level, finding.check) == ("warn", "retention")
    assert "user-interactions has retention.ms=7776000000 instead of 3600000" in finding.fact
    system.configure(partitions=2, interactions_retention=3600)
    assert system.command(*shlex.split(finding.fix)[1:]).returncode == 0
    system.configure(interactions_retention=7776000)
    assert wrong(changed) == []


def test_a_topic_with_too_few_partitions_is_named_and_the_command_of_the_fix_adds_them(system: System) -> None:
    create_topics(system)
    settings = settings_for(system)
    asyncio.run(clean(system.broker))
    asyncio.run(create_topic(system, settings.embedded_topic, 1, retention_ms=str(7 * int(DAY)), segment_ms=DAY))
    asyncio.run(
        create_topic(
            system, settings.bags_changelog, 2, cleanup_policy="compact", segment_ms=DAY, max_compaction_lag_ms=DAY
        )
    )
    asyncio.run(fill(system, settings))
    finding = next(one for one in wrong(settings) if one.check == "partitions")
    run_fix(system.broker, finding.fix.removeprefix("add partitions to it, which loses nothing: "))
    create_topics(system)
    assert wrong(settings) == []


async def fill(system: System, settings: Settings) -> None:
    """Rows of twenty users on the changelog, spread over two partitions."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for number in range(20):
            user = f"user-{number}"
            await producer.send_and_wait(
                settings.bags_changelog, b"x", key=slot_key(user, "item"), partition=partition_of(user.encode(), 2)
            )


async def test_records_of_the_future_are_named_until_the_clock_has_reached_them(system: System) -> None:
    await asyncio.to_thread(create_topics, system)
    settings = settings_for(system, max_future=0)
    found: list[Finding] = []
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for ahead in AHEAD:
            reached = time.time() + ahead
            await producer.send_and_wait("user-interactions", b"{}", timestamp_ms=int(reached * 1000))
            found = await asyncio.to_thread(wrong, settings)
            if time.time() < reached:
                break
    [finding] = found
    assert finding.check == "clock"
    assert "ahead of this machine's clock" in finding.fact
    assert "NTP" in finding.fix
    await asyncio.to_thread(wait_until, lambda: wrong(settings) == [], AHEAD[-1] + PATIENCE)


async def test_a_group_of_another_topic_is_named_and_a_namespace_is_the_fix(system: System) -> None:
    await asyncio.to_thread(create_topics, system)
    await create_topic(system, "clicks", 1)
    async with AIOKafkaConsumer(bootstrap_servers=system.broker.bootstrap, group_id="tastestream-embed") as consumer:
        consumer.assign([TopicPartition("clicks", 0)])
        await consumer.commit({TopicPartition("clicks", 0): 0})
    [finding] = await asyncio.to_thread(wrong, settings_for(system))
    assert finding.check == "groups"
    assert "clicks" in finding.fact
    assert "TASTESTREAM_NAMESPACE" in finding.fix
    apart = settings_for(system, namespace="shop")
    [other] = await asyncio.to_thread(wrong, apart)
    assert other.fix == "tastestream topics", "the namespace has a group of its own, and no topics yet"
    await asyncio.to_thread(create_topics, system, namespace="shop")
    assert await asyncio.to_thread(wrong, apart) == []


def test_a_broker_that_nobody_runs_is_named_and_the_address_of_one_that_runs_makes_all_well(system: System) -> None:
    create_topics(system)
    nobody = f"127.0.0.1:{free_port()}"
    [finding] = wrong(settings_for(system, broker=nobody, broker_timeout=2))
    assert finding.check == "broker"
    assert nobody in finding.fact
    assert "TASTESTREAM_BROKER" in finding.fix
    assert wrong(settings_for(system)) == []


def test_a_setting_that_does_not_exist_is_named_and_the_one_that_was_meant_makes_all_well(system: System) -> None:
    create_topics(system)
    meant = system.environment.pop("TASTESTREAM_BROKER")
    system.configure(brokr=meant)
    named = system.command("doctor")
    assert named.returncode == MISCONFIGURED
    assert "TASTESTREAM_BROKR" in named.stdout
    assert "TASTESTREAM_BROKER?" in named.stdout
    del system.environment["TASTESTREAM_BROKR"]
    system.configure(broker=meant)
    content = system.command("doctor")
    assert content.returncode == 0, content.stdout
    assert ", 0 to look at, 0 wrong" in content.stdout


class Guarded(NamedTuple):
    """A broker with ACLs, and the settings of a user who may do all that the workers need."""

    broker: KafkaBroker
    settings: Settings

    def acls(self, action: Literal["--add", "--remove"], *arguments: str) -> None:
        user = "--allow-principal", f"User:{self.settings.sasl_username}"
        self.broker.console("acls", action, *user, *arguments, *(("--force",) if action == "--remove" else ()))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with KafkaBroker(folder / "broker", brief=True, users={"shop": "secret"}) as broker:
        system = System(broker, folder)
        create_topics(system)
        settings = settings_for(
            system, broker=broker.users_bootstrap, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN",
            sasl_username="shop", sasl_password="secret",  # noqa: S106
        )  # fmt: skip
        guarded = Guarded(broker, settings)
        topics = [f"--topic={one}" for one in needed(settings, trend=True)]
        guarded.acls("--add", *topics, *(f"--operation={one}" for one in ("Read", "Write", "DescribeConfigs")))
        guarded.acls("--add", "--group=*", "--operation=Read")
        yield guarded


def test_with_all_rights_nothing_is_wrong(guarded: Guarded) -> None:
    assert wrong(guarded.settings) == []


def test_a_missing_right_is_named_and_the_command_of_the_fix_grants_it(guarded: Guarded) -> None:
    guarded.acls("--remove", "--topic=user-recommendations", "--operation=Write")
    [finding] = wrong(guarded.settings)
    assert finding.check == "rights"
    assert finding.fact == "shop may not write topic user-recommendations"
    run_fix(guarded.broker, finding.fix)
    assert wrong(guarded.settings) == []


def test_a_missing_right_to_a_group_is_named_and_the_command_of_the_fix_grants_it(guarded: Guarded) -> None:
    guarded.acls("--remove", "--group=*", "--operation=Read")
    guarded.acls("--add", f"--group={guarded.settings.embed_group}", "--operation=Read")
    [finding] = wrong(guarded.settings)
    assert finding.check == "rights"
    assert finding.fact == "shop may not read group tastestream-profile"
    run_fix(guarded.broker, finding.fix)
    assert wrong(guarded.settings) == []


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ({"sasl_password": SecretStr("wrong")}, "SASL_PASSWORD"),
        ({"security_protocol": "PLAINTEXT", "broker_timeout": 5.0}, "SECURITY_PROTOCOL is PLAINTEXT"),
    ],
    ids=["password", "protocol"],
)
def test_a_wrong_login_is_named_and_the_right_one_makes_all_well(
    guarded: Guarded, mistake: dict[str, Any], named: str
) -> None:
    [finding] = wrong(guarded.settings.model_copy(update=mistake))
    assert finding.check == "broker"
    assert named in finding.fix
    assert wrong(guarded.settings) == []


def test_an_address_that_nobody_can_reach_is_named_and_another_listener_makes_all_well(
    guarded: Guarded, tmp_path: Path
) -> None:
    system = System(guarded.broker, tmp_path)
    [finding] = wrong(settings_for(system, broker=f"127.0.0.1:{guarded.broker.lost_port}", broker_timeout=5))
    assert finding.check == "broker"
    assert "tell clients to use 127.0.0.1:1 (" in finding.fact
    assert "use their listener for it (TASTESTREAM_BROKER)" in finding.fix
    assert wrong(settings_for(system)) == []
