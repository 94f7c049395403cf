"""Over how many partitions the bags are spread, and whether the topics fit.

The bag of a user is in the partition that the hash of the user id gives, over as many partitions as there were when the first
bag was written. That number must stay: with another one, the events of a user would reach another partition than the user's
bag. So the embed worker sends over this many partitions, whatever the topics have by now. A topic with more partitions works,
and those above are not used. A topic with fewer does not.

The number is stored nowhere. It follows from the changelog: a few of its keys are enough to tell over how many partitions
their users are spread.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.partitioning import key_hash
from streams.kafka.reading import read_past_damage
from streams.kafka.topics import surplus
from streams.profile.rows import prefix_of
from streams.settings import Settings

logger = logging.getLogger(__name__)

USERS = 20  # of each partition: enough to tell any two numbers apart
FETCH = 16 * 1024  # bytes of each partition
PATIENCE = 5.0  # seconds. A partition whose keys do not come in that time is not asked if others have given some.


async def partitions_of_bags(settings: Settings, partitions: Mapping[str, int]) -> int:
    """Number of partitions of the bags. Logs a topic that has more.

    Args:
        settings: Where the broker is, and the names of the topics.
        partitions: Number of partitions of each topic, by its name. All topics exist.

    Raises:
        BrokerUnreachable: The broker does not answer.
        TopicsError: The changelog may not be read, or a topic has fewer partitions. The message says which, and the step that
            loses nothing.
    """
    changelog = settings.bags_changelog
    counts = {name: partitions[name] for name in (settings.embedded_topic, changelog)}
    number = await partitions_of_rows(settings, counts[changelog], usual=min(counts.values()))
    for name, count in counts.items():
        if line := surplus(name, count, number):
            logger.warning("%s", line)
    return number


async def partitions_of_rows(settings: Settings, count: int, *, usual: int) -> int:
    """Number of partitions of the bags, from the rows alone.

    Args:
        settings: Where the broker is, and the name of the changelog.
        count: Number of its partitions.
        usual: The answer if it has no rows.

    Raises:
        BrokerUnreachable: The broker does not answer.
        TopicsError: The changelog may not be read.
    """
    try:
        keys = await _first_keys(settings, count)
    except KafkaError as error:
        problem = f"{settings.bags_changelog} could not be read at {settings.broker}: {error!r}"
        raise (BrokerUnreachable if error.retriable else TopicsError)(problem) from error
    return spread(keys, usual=usual, most=count)


def spread(keys: Iterable[tuple[int, bytes]], *, usual: int, most: int) -> int:
    """The number of partitions that explains where the rows of users are.

    Args:
        keys: partition and key of some rows. Those that somebody else wrote may be among them.
        usual: the answer if the keys do not contradict it.
        most: the largest possible answer.
    """
    users = {(partition, prefix_of(key)[2:]) for partition, key in keys}
    hashes = [(partition, key_hash(user)) for partition, user in users if user]
    explained = {count: sum(number % count == at for at, number in hashes) for count in range(1, most + 1)}
    return max(explained, key=lambda count: (explained[count], count == usual, count))


async def _first_keys(settings: Settings, count: int) -> list[tuple[int, bytes]]:
    """Partition and key of the first rows of each partition of the changelog. Raises KafkaError and BrokerUnreachable."""
    read_past_damage(settings.max_batch_bytes)
    consumer = AIOKafkaConsumer(
        **settings.aiokafka(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH,
        isolation_level="read_uncommitted",  # as the recovery of the bags
    )
    try:
        await consumer.start()
        partitions = [TopicPartition(settings.bags_changelog, number) for number in range(count)]
        consumer.assign(partitions)
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        left = {tp for tp in partitions if starts[tp] < ends[tp]}
        for tp in left:
            consumer.seek(tp, starts[tp])
        keys: list[tuple[int, bytes]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while left := {tp for tp in left if await consumer.position(tp) < ends[tp]}:
                    for tp, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                        users = {prefix_of(record.key): (tp.partition, record.key) for record in records if record.key}
                        keys += list(users.values())[:USERS]
                        if users:
                            left.discard(tp)
        if left and not keys:  # a guess could send the events of a user to another partition than the user's bag
            raise BrokerUnreachable(
                f"the broker at {settings.broker} gave no rows of {settings.bags_changelog} within {PATIENCE:g} s"
            )
        return keys
    finally:
        await consumer.stop()
