"""Every codec of Kafka is read by every reader: workers, recovery, `dataset topic`, `dlq list`.

The topics are set to the codec, so that the broker compresses what the workers write, too.
"""

import asyncio
import json
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.kafka.topics import topic_specs
from streams.settings import read_settings
from tests.kafka.system import System

CODECS = ("gzip", "snappy", "lz4", "zstd")
USERS = 20


def event(user: str, number: int) -> bytes:
    """An event that needs no picture."""
    fields = {"user_id": user, "item_id": f"shoe-{number}", "type": "return", "timestamp": 1_700_000_000_000 + number}
    return json.dumps({**fields, "event_id": f"{user}-{number}"}).encode()


async def compress_topics(system: System, codec: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        for spec in topic_specs(read_settings()):
            config = {
                "cleanup.policy": spec.cleanup,
                "compression.type": codec,
            }  # what is not named falls to its default
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name, config)])
    finally:
        await admin.close()


async def produce(system: System, codec: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=system.broker.bootstrap, compression_type=codec, linger_ms=20
    ) as producer:
        for delivery in [await producer.send("user-interactions", value, key=b"user") for value in values]:
            await delivery


async def answered(system: System) -> set[str]:
    return {one["event_id"] for one in await system.recommendations()}


async def test_every_reader_reads_every_codec(system: System, tmp_path: Path) -> None:
    assert system.command("topics").returncode == 0
    good = {codec: [event(f"{codec}-{number % USERS}", number) for number in range(200)] for codec in CODECS}
    with system.workers():
        for codec in CODECS:
            await compress_topics(system, codec)
            await produce(system, codec, [*good[codec], f'{{"user_id": "{codec}"'.encode()])
            await system.settled()
    recommended = await answered(system)
    for codec in CODECS:
        assert {json.loads(value)["event_id"] for value in good[codec]} <= recommended, codec
    bags = system.stored_bags()
    assert bags.keys() == {f"{codec}-{number}" for codec in CODECS for number in range(USERS)}

    system.remove_data()
    with system.worker("profile"):
        pass
    assert system.stored_bags() == bags, "the changelog was recovered"

    letters = await asyncio.to_thread(system.command, "dlq", "list", "--json")
    unseen = [codec for codec in CODECS if codec not in letters.stdout]
    assert unseen == [], letters.stderr
    made = await asyncio.to_thread(system.command, "dataset", "topic", "--out", str(tmp_path / "set"))
    assert "Codec" not in made.stderr, made.stderr
    assert "invalid_json" in made.stdout + made.stderr, made.stdout + made.stderr
