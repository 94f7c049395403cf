"""Topics that Kafka compacts within seconds."""

import asyncio
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.kafka.broker import KafkaBroker

SOON = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "100",
}


def compact_soon(broker: KafkaBroker, *topics: str) -> None:
    """Compact these topics within seconds. New records are needed, since they close the segments."""
    asyncio.run(_alter(broker.bootstrap, topics))


async def _alter(bootstrap: str, topics: tuple[str, ...]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        responses: list[Any] = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, one, SOON) for one in topics]
        )
    finally:
        await admin.close()
    for response in responses:
        for code, message, *_ in response.resources:
            assert code == 0, message
