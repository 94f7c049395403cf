"""Moves the events of a generation that no worker will read to the one whose workers run. What comes twice changes no bag."""

from aiokafka import TopicPartition

from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.bulk_sending import BulkSender
from streams.kafka.observing import Observer
from streams.kafka.partitioning import partition_of
from streams.kafka.records import UnreadableRecord
from streams.resize.waiting import look
from streams.settings import Settings

MOVED = "events"


async def move_leftovers(source: Settings, target: Settings, partitions: int) -> int:
    """Send the unfinished events of one generation to another.

    Args:
        source: with the names of the one.
        target: with the names of the other.
        partitions: of the bags of the other.

    Returns:
        Their number.

    Raises:
        TastestreamError: a topic or the broker does not permit it.
    """
    async with Observer(source) as observer:
        found = await look(observer, source)
    begins = {TopicPartition(found.topic, one.partition): one.position or 0 for one in found.partitions}
    async with (
        BulkSender(target, target.embedded_topic) as sender,
        BoundedTopicReader(source, source.embedded_topic, "TASTESTREAM_EMBEDDED_TOPIC") as topic,
    ):
        async for _, records in topic.everything(begins):
            for record in records:
                if not isinstance(record, UnreadableRecord):
                    key = record.key or b""
                    await sender.send_record(
                        record.key, record.value, partition_of(key, partitions), MOVED, record.headers
                    )
        await sender.flush()
        return sender.sent[MOVED]
