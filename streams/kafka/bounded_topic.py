"""A topic, read outside of any consumer group from where it begins to where it ends when it is opened.

Nothing is committed, and nobody else's reading is disturbed. What is held in memory is a batch for each partition.
"""

from collections.abc import Sequence
from time import monotonic
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.topics import connect
from streams.settings import Settings

BATCH = 500  # records that are handed over at a time; a fetch brings a megabyte of each partition
WAIT = 1000  # milliseconds for one answer of the broker


class BoundedTopic:
    """What there is of a topic now. An asynchronous context manager.

    Opening it raises BrokerUnreachable, or TopicsError when there is no such topic or it may not be read.
    """

    def __init__(self, settings: Settings, name: str, setting: str) -> None:
        """setting: the one that names the topic."""
        self.name = name
        self.topics: set[str] = set()  # all that the broker has
        self.starts: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self._settings = settings
        self._setting = setting
        self._silence = 0.0  # seconds that were waited for records since the last that came
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(), auto_offset_reset="earliest", enable_auto_commit=False, max_poll_records=BATCH
        )

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:  # Ctrl-C too: without `__aexit__`, nobody else would stop it
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def _open(self) -> None:
        settings = self._settings
        admin = await connect(settings)
        try:
            described: dict[str, Any] = {topic["topic"]: topic for topic in await admin.describe_topics()}
        finally:
            await admin.close()
        self.topics = set(described)
        if self.name not in described:
            raise TopicsError(
                f"there is no topic {self.name} at {settings.broker}; `tastestream topics` creates it, "
                f"{self._setting} names another"
            )
        partitions = [TopicPartition(self.name, one["partition"]) for one in described[self.name]["partitions"]]
        try:
            await self._consumer.start()
            self._consumer.assign(partitions)
            self.starts = await self._consumer.beginning_offsets(partitions)
            self.ends = await self._consumer.end_offsets(partitions)
        except KafkaError as error:
            raise self._of_kafka(error) from error

    def __len__(self) -> int:
        """Records on the topic, or a few more: offsets may have gaps."""
        return sum(end - self.starts[tp] for tp, end in self.ends.items())

    async def offsets_at(self, time: int) -> dict[TopicPartition, int]:
        """The first offset of each partition whose record was sent at `time` (milliseconds) or later; its end where there is none.

        Raises BrokerUnreachable or TopicsError.
        """
        try:
            found = await self._consumer.offsets_for_times(dict.fromkeys(self.ends, time))
        except KafkaError as error:
            raise self._of_kafka(error) from error
        return {tp: end if found[tp] is None else min(found[tp].offset, end) for tp, end in self.ends.items()}

    def rewind(self) -> None:
        """Read from the start."""
        self._silence = 0.0
        for tp, start in self.starts.items():
            self._consumer.seek(tp, start)

    async def over(self, tp: TopicPartition) -> bool:
        """Whether a partition is read to its end."""
        return self.ends[tp] <= self.starts[tp] or await self._consumer.position(tp) >= self.ends[tp]

    async def more(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, list[Any]]:
        """The next records of these partitions, of some of them or of none; offsets may have been passed all the same.

        Raises BrokerUnreachable when the broker is silent for longer than `broker_timeout`, TopicsError when it refuses.
        """
        begun = monotonic()
        try:
            found = await self._consumer.getmany(*partitions, timeout_ms=WAIT)
        except KafkaError as error:
            raise self._of_kafka(error) from error
        self._silence = 0.0 if found else self._silence + monotonic() - begun
        if self._silence > self._settings.broker_timeout:
            raise BrokerUnreachable(
                f"the broker at {self._settings.broker} was silent for {self._settings.broker_timeout:g} s "
                f"(TASTESTREAM_BROKER_TIMEOUT) while {self.name} was read"
            )
        return {tp: [one for one in records if one.offset < self.ends[tp]] for tp, records in found.items()}

    def _of_kafka(self, error: KafkaError) -> BrokerUnreachable | TopicsError:
        if isinstance(error, KafkaConnectionError):
            return BrokerUnreachable(f"the broker at {self._settings.broker} went away: {error}")
        return TopicsError(f"topic {self.name} could not be read: {error!r}")
