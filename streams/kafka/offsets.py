"""Offsets of partitions that a consumer's own requests do not give, and commits that may be given up.

Every reader reads committed records only, so its end offsets are the last stable offsets: they stop at the first transaction
that is still open. The high watermark is the end of all records.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

ENDS_TIMEOUT = 2.0  # seconds for the leaders of partitions to say where these end

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


async def known_ends(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """The ends of the partitions whose leaders answer within `ENDS_TIMEOUT`.

    aiokafka answers for all or for none: it waits until each partition has a leader. So where it does not answer, the partitions
    are asked for one by one.

    Raises:
        KafkaError: the broker refuses.
    """

    async def ends(some: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        try:
            async with asyncio.timeout(ENDS_TIMEOUT):
                return await consumer.end_offsets(list(some))
        except (TimeoutError, KafkaTimeoutError):
            return {}

    found = await ends(partitions)
    if not found and len(partitions) > 1:
        for one in await asyncio.gather(*(ends([tp]) for tp in partitions)):
            found |= one
    return found


def may_cancel_commits(consumer: AIOKafkaConsumer) -> None:
    """Let nobody log what becomes of the requests of commits that are cancelled.

    aiokafka shields the request of a commit. When the commit is cancelled, the request goes on, and nobody is left to take its
    error: asyncio would log it as a task's exception that was never retrieved.

    Args:
        consumer: of a group, started.
    """
    coordinator: Any = consumer._coordinator
    request = coordinator._do_commit_offsets

    async def requested(assignment: Any, offsets: Any) -> None:
        if task := asyncio.current_task():
            task.add_done_callback(_take_error)
        await request(assignment, offsets)

    coordinator._do_commit_offsets = requested


def _take_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
