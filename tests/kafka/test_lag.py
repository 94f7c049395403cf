"""`tastestream lag` on real Kafka: events in partitions that nobody reads count, with their age. A partition names its worker."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from streams.kafka.groups import group_uses
from streams.kafka.lag import GroupLag
from streams.kafka.metadata import topics_now
from streams.kafka.observing import Observer
from streams.settings.settings import Settings
from tests.kafka.system import PATIENCE, System

T = TypeVar("T")

PARTITIONS = 4
HOUR = 3600.0
_numbers = count()


class OnlyEven(RoundRobinPartitionAssignor):
    """Leaves the odd partitions to nobody, as a worker does that does not know of new partitions yet."""

    name = "only-even"

    @classmethod
    def assign(
        cls,
        cluster: Any,  # noqa: ARG003 -- the signature is aiokafka's
        members: Mapping[str, Any],
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        found: Any = ConsumerProtocolMemberAssignment
        [topic] = {topic for one in members.values() for topic in one.subscription}
        return {member: found(0, [(topic, [0, 2])], b"") for member in members}


@pytest.fixture
async def settings(system: System) -> Settings:
    """Of an installation without workers, with topics of its own."""
    given: dict[str, Any] = {"broker": system.broker.bootstrap, "namespace": f"lag-{next(_numbers)}"}
    made = Settings(**given)
    system.configure(namespace=made.namespace)
    async with asking(made) as admin:
        await create(admin, made.interactions_topic)
        await create(admin, made.embedded_topic)
    return made


@asynccontextmanager
async def asking(settings: Settings) -> AsyncGenerator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create(admin: AIOKafkaAdminClient, name: str) -> None:
    """Create a topic, and wait until the broker knows it."""
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await until(lambda: topics_now(admin._client, [name]), lambda found: name in found)


async def until(ask: Callable[[], Awaitable[T]], right: Callable[[T], bool]) -> T:
    """Ask until an answer is right, which the broker does not announce."""
    async with asyncio.timeout(PATIENCE):
        while not right(answer := await ask()):  # noqa: ASYNC110 -- the broker sends no notice
            await asyncio.sleep(0.1)
    return answer


async def look(settings: Settings, rounds: int = 1) -> GroupLag:
    """The lag of the embed workers."""
    async with Observer(settings) as observer:
        [found, _] = (await observer.look(group_uses(settings), rounds=rounds)).groups
    return found


async def send(settings: Settings, partition: int, ages: Iterable[float], value: bytes = b"{}", **options: Any) -> None:
    """Records of these ages in seconds."""
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, **options) as producer:
        for age in ages:
            sent = int((time.time() - age) * 1000)
            await producer.send_and_wait(settings.interactions_topic, value, partition=partition, timestamp_ms=sent)


@asynccontextmanager
async def member(settings: Settings) -> AsyncGenerator[AIOKafkaConsumer]:
    """A member of the embed group that reads the even partitions."""
    consumer = AIOKafkaConsumer(
        settings.interactions_topic,
        bootstrap_servers=settings.broker,
        group_id=settings.embed_group,
        client_id="ada",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        partition_assignment_strategy=[OnlyEven],
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_events_count_before_any_worker_has_read_the_topic(settings: Settings) -> None:
    await until(lambda: look(settings), lambda found: found.events == 0)  # once the broker has a coordinator
    await send(settings, 1, [2 * HOUR, HOUR])
    found = await look(settings)
    assert [one.events for one in found.partitions] == [0, 2, 0, 0]
    assert found.seconds == pytest.approx(2 * HOUR, abs=2 * PATIENCE)
    assert found.members == 0
    assert found.unowned == [0, 1, 2, 3]


async def test_events_in_a_partition_that_nobody_reads_count_and_name_no_worker(
    system: System, settings: Settings
) -> None:
    for partition in range(PARTITIONS):
        await send(settings, partition, [HOUR, HOUR / 2])
    async with member(settings) as consumer:
        await consumer.commit(
            {TopicPartition(settings.interactions_topic, 0): 1, TopicPartition(settings.interactions_topic, 2): 2}
        )
        found = await look(settings)
        assert [one.events for one in found.partitions] == [1, 2, 0, 2]
        ages = [one.seconds for one in found.partitions]
        assert ages == [pytest.approx(age, abs=2 * PATIENCE) for age in (HOUR / 2, HOUR, 0, HOUR)]
        assert found.unowned == [1, 3]
        owners = [one.owner.client if one.owner else None for one in found.partitions]
        assert owners == ["ada", None, "ada", None]
        shown = await asyncio.to_thread(system.command, "lag")
        assert shown.returncode == 0, shown.stderr
        name = settings.interactions_topic
        assert f"no worker reads {name}/1, {name}/3" in shown.stdout
        assert "5 unfinished events in 3 partitions, the oldest 1 h 0 m old" in shown.stdout
        assert max(map(len, shown.stdout.splitlines()[:8])) <= 80
        report = json.loads((await asyncio.to_thread(system.command, "lag", "--json")).stdout)
        assert report["events"] == 5
        assert report["groups"][0]["partitions"][1]["owner"] is None


async def test_an_aborted_transaction_ends_as_no_lag_once_it_is_committed_past(settings: Settings) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, transactional_id="shop") as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(settings.interactions_topic, b"{}", partition=0)
        assert (await look(settings)).partitions[0].events == 0, "the transaction is open"
        await producer.abort_transaction()
    await until(lambda: look(settings), lambda found: found.events == 2)  # the record, and the end of the transaction
    async with member(settings) as consumer:
        await consumer.commit({TopicPartition(settings.interactions_topic, 0): 2})
        assert (await look(settings)).partitions[0].events == 0


async def test_records_too_large_for_one_response_get_their_age_in_several_looks(settings: Settings) -> None:
    for partition in range(PARTITIONS):
        await send(settings, partition, [HOUR], b"x" * 200_000)  # above what is asked for of a partition
    known = [one for one in (await look(settings)).partitions if one.seconds is not None]
    assert len(known) == 1
    found = await look(settings, rounds=PARTITIONS)
    assert [one.seconds for one in found.partitions] == [pytest.approx(HOUR, abs=2 * PATIENCE)] * PARTITIONS


async def test_a_topic_that_was_created_again_is_unread_from_its_start(settings: Settings) -> None:
    name = settings.interactions_topic
    await send(settings, 0, [HOUR] * 3)
    async with asking(settings) as admin:
        before = (await topics_now(admin._client, [name]))[name]
        async with member(settings) as consumer:
            await consumer.commit({TopicPartition(name, 0): (3, before.mark)})
        assert (await look(settings)).events == 0
        await admin.delete_topics([name])
        await until(lambda: topics_now(admin._client, [name]), lambda found: name not in found)
        assert (await look(settings)).partitions == []
        await create(admin, name)
    await send(settings, 0, [HOUR] * 4)
    async with member(settings) as consumer:  # an offset of the earlier topic, as a commit that came late
        await consumer.commit({TopicPartition(name, 0): (3, before.mark)})
    assert (await look(settings)).partitions[0].events == 4


async def test_one_look_takes_a_handful_of_requests_whatever_the_number_of_partitions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for partition in range(PARTITIONS):
        await send(settings, partition, [1])
    async with Observer(settings) as observer:
        await observer.look(group_uses(settings))
        sent: list[str] = []
        client = observer._admin._client
        really = client.send

        async def counted(node: int, request: Any, **options: Any) -> Any:
            sent.append(type(request).__name__)
            return await really(node, request, **options)

        monkeypatch.setattr(client, "send", counted)
        await observer.look(group_uses(settings))
        assert len(sent) == 1 + 2 + 2 * 2, sent  # the times and the coordinators are known from the first look


async def test_a_broker_that_does_not_answer_is_one_line(system: System) -> None:
    system.configure(broker="127.0.0.1:9")
    ended = await asyncio.to_thread(system.command, "lag")
    assert ended.returncode == 69
    assert ended.stderr.startswith("error: no broker at 127.0.0.1:9"), ended.stderr
    assert ended.stdout == ""
