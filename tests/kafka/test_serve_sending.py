"""What the API writes: on the topic of the user's partition, acknowledged, and refused within a bound while the broker is away."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.exceptions import DeliveryError
from streams.kafka.partitioning import partition_of
from streams.kafka.topics import ensure_topics
from streams.serve.interface import Sent
from streams.serve.sending import MAX_SENDING, EventSender
from streams.settings import Settings, read_settings
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import PATIENCE, System


def settings_of(broker: KafkaBroker) -> Settings:
    return read_settings(broker=broker.bootstrap, partitions=4)


async def read(broker: KafkaBroker, topic: str, count: int) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Partition, offset, key and value of the records of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in range(4)])
        async with asyncio.timeout(PATIENCE):
            return [
                (one.partition, one.offset, one.key, one.value)
                for one in [await consumer.getone() for _ in range(count)]
            ]
    finally:
        await consumer.stop()


async def test_events_are_where_the_answer_says(system: System) -> None:
    settings = settings_of(system.broker)
    await ensure_topics(settings)
    users = [f"user-{number}" for number in range(40)] + ["a/b 🧶"]
    values = [(user, f'{{"user_id": "{user}"}}'.encode()) for user in users]
    async with EventSender(settings) as sender:
        sent = await sender.send(values)
        again = await sender.send(values[:1])
    expected = {
        (one.partition, one.offset, user.encode(), value)
        for one, (user, value) in zip([*sent, *again], [*values, values[0]], strict=True)
    }
    assert {one.topic for one in sent} == {settings.interactions_topic}
    assert [one.partition for one in sent] == [partition_of(user.encode(), 4) for user in users]
    assert set(await read(system.broker, settings.interactions_topic, 42)) == expected


async def taken(sender: EventSender, value: bytes) -> Sent:
    """Send until the broker takes it: on a busy machine it may not answer in the time of the sender."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                [sent] = await sender.send([("ada", value)])
            except DeliveryError:
                await asyncio.sleep(0.1)
            else:
                return sent


async def test_while_the_broker_is_away_each_event_is_refused_in_time_and_later_ones_are_taken(system: System) -> None:
    settings = settings_of(system.broker)
    await ensure_topics(settings)
    async with EventSender(settings, timeout=1.0) as sender:
        before = await taken(sender, b"1")
        system.broker.kill()
        try:
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(DeliveryError, match="did not"):
                    await sender.send([("ada", b"2")])
                assert time.monotonic() - began < 25  # of 30 without a bound
            many = [asyncio.create_task(sender.send([("ada", b"3")])) for _ in range(MAX_SENDING + 5)]
            refused = await asyncio.gather(*many, return_exceptions=True)
            assert all(isinstance(one, DeliveryError) for one in refused)
            assert sum("wait for the broker already" in str(one) for one in refused) == 5
        finally:
            system.broker.start()
        after = await taken(sender, b"4")
        assert (after.partition, after.offset > before.offset) == (before.partition, True)


async def test_it_starts_without_a_broker_and_connects_when_there_is_one(system: System) -> None:
    settings = settings_of(system.broker)
    await ensure_topics(settings)
    system.broker.stop()
    try:
        async with EventSender(settings, timeout=0.5) as sender:
            with pytest.raises(DeliveryError, match="did not answer within"):
                await sender.send([("ada", b"1")])
            system.broker.start()
            await taken(sender, b"2")
    finally:
        if not system.broker.running:
            system.broker.start()
