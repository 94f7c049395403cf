"""Offsets of partitions that a consumer's own requests do not give.

Every reader reads committed records only, so its end offsets are the last stable offsets: they stop at the first transaction
that is still open. The high watermark is the end of all records.
"""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

ISOLATION = "read_committed"  # of every reader, except the recovery of a table from its own changelog


async def high_watermarks(
    kafka: Mapping[str, Any], partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The ends of partitions, records of open transactions included.

    Args:
        kafka: connection arguments of an aiokafka client.
        partitions: of existing topics.

    Raises:
        KafkaError: the broker does not answer, or refuses.
    """
    consumer = AIOKafkaConsumer(**kafka, isolation_level="read_uncommitted")
    try:
        await consumer.start()
        return await consumer.end_offsets(list(partitions))
    finally:
        await consumer.stop()
