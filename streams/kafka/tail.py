"""Reads what topics get from now on, outside of any consumer group. It commits nothing, and disturbs no other reader."""

from collections.abc import Mapping
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.bounded_topic import reading_failed
from streams.kafka.offsets import ISOLATION
from streams.kafka.reading import read_past_damage
from streams.kafka.records import Record
from streams.kafka.topics import partitions_of
from streams.settings import Settings


class TopicTail:
    """The records that topics get after it was opened. An asynchronous context manager.

    Opening it raises BrokerUnreachable, or TopicsError if a topic does not exist or may not be read.
    """

    def __init__(self, settings: Settings, topics: Mapping[str, str]) -> None:
        """Does not connect yet.

        Args:
            settings: Where the broker is.
            topics: The topics, each with the environment variable that names it.
        """
        self.partitions: dict[str, int] = {}  # number of partitions of all topics that the broker has
        self._settings = settings
        self._topics = topics
        read_past_damage(settings.max_batch_bytes)
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(), enable_auto_commit=False, isolation_level=ISOLATION, auto_offset_reset="latest"
        )

    async def __aenter__(self) -> Self:
        try:
            self.partitions = await partitions_of(self._settings, self._topics)
            read = [TopicPartition(name, number) for name in self._topics for number in range(self.partitions[name])]
            await self._consumer.start()
            self._consumer.assign(read)
            for tp, end in (await self._consumer.end_offsets(read)).items():
                self._consumer.seek(tp, end)
        except BaseException as error:  # Ctrl-C too: `__aexit__`, which stops the consumer, does not run then
            await self._consumer.stop()
            if isinstance(error, KafkaError):
                raise self._failure(error) from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def next_records(self, timeout: float) -> list[Record]:
        """The next records, or none within `timeout` seconds. Raises BrokerUnreachable or TopicsError."""
        try:
            found = await self._consumer.getmany(timeout_ms=int(timeout * 1000))
        except KafkaError as error:
            raise self._failure(error) from error
        return [record for records in found.values() for record in records]

    def _failure(self, error: KafkaError) -> Exception:
        return reading_failed(self._settings, ", ".join(self._topics), error)
