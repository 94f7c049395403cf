"""One partition without a leader leaves the ends of the others known."""

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka import offsets
from streams.kafka.offsets import known_ends
from tests.kafka.system import System

TOPIC = "ends"


async def test_one_partition_without_a_leader_leaves_the_ends_of_the_others_known(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single broker leads every partition, so the consumer's own picture of the cluster is changed, as a broker would change it."""
    bootstrap = system.broker.bootstrap
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 3, 1)])
    finally:
        await admin.close()
    partitions = [TopicPartition(TOPIC, number) for number in range(3)]
    monkeypatch.setattr(offsets, "ENDS_TIMEOUT", 0.5)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        assert await known_ends(consumer, partitions) == dict.fromkeys(partitions, 0)
        cluster: Any = consumer._client.cluster
        leader, lost = cluster.leader_for_partition, partitions[1]

        def of_the_others(tp: TopicPartition) -> int | None:
            return -1 if tp == lost else leader(tp)

        monkeypatch.setattr(cluster, "leader_for_partition", of_the_others)
        assert await known_ends(consumer, partitions) == {partitions[0]: 0, partitions[2]: 0}
        assert await known_ends(consumer, [lost]) == {}
