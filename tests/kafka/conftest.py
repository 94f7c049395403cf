"""One real Kafka for all test modules of a process. Each module finds it without topics."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError

from tests.kafka.broker import KafkaBroker
from tests.kafka.distribution import KafkaUnavailable
from tests.kafka.system import System

CLEANED = 120.0  # seconds until the broker has deleted all topics, at most


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that runs until the last module has ended."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka") / "broker", brief=True)
    try:
        broker.start()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka for the test: {error}")
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def system(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A broker without topics, and an empty data folder. The test starts the workers."""
    yield System(broker, tmp_path_factory.mktemp("system"))
    if not broker.running:  # a test killed it and failed
        broker.start()
    asyncio.run(clean(broker))


async def clean(broker: KafkaBroker) -> None:
    """Delete all topics except Kafka's own, and wait until their committed offsets are gone too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()

    async def topics() -> list[str]:
        return [topic for topic in await admin.list_topics() if not topic.startswith("__")]

    async def offsets() -> bool:
        try:
            groups = [group for group, *_ in await admin.list_consumer_groups()]
            return any([await admin.list_consumer_group_offsets(group) for group in groups])
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            # a test has just started the broker again
            return True

    try:
        if left := await topics():
            await admin.delete_topics(left)
        async with asyncio.timeout(CLEANED):
            while await topics() or await offsets():  # noqa: ASYNC110 -- Kafka sends no notice
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
