"""Reads a topic outside of any consumer group, from its start to the end that it has when it is opened.

It commits nothing, and disturbs no other reader. It holds one batch of each partition in memory.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from time import monotonic
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.offsets import ISOLATION
from streams.kafka.reading import read_past_damage
from streams.kafka.topics import partitions_of
from streams.settings import Settings

BATCH = 500  # records handed over at a time; a fetch brings a megabyte of each partition
WAIT = 1000  # milliseconds for one answer of the broker


class BoundedTopicReader:
    """The records of a topic between its start and its end at the time of opening. An asynchronous context manager.

    Opening it raises BrokerUnreachable, or TopicsError if the topic does not exist or may not be read.
    """

    def __init__(self, settings: Settings, name: str, setting: str, *, isolation: str = ISOLATION) -> None:
        """Does not connect yet.

        Args:
            settings: Where the broker is.
            name: The topic.
            setting: The environment variable that names the topic, for messages.
            isolation: Whether records of open and aborted transactions count.
        """
        self.name = name
        self.topics: set[str] = set()  # all that the broker has
        self.starts: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self._settings = settings
        self._setting = setting
        self._silence = 0.0  # seconds spent waiting since the last record
        read_past_damage(settings.max_batch_bytes)
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level=isolation,
            max_poll_records=BATCH,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:  # Ctrl-C too: `__aexit__`, which stops the consumer, does not run then
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def _open(self) -> None:
        found = await partitions_of(self._settings, {self.name: self._setting})
        self.topics = set(found)
        partitions = [TopicPartition(self.name, number) for number in range(found[self.name])]
        try:
            await self._consumer.start()
            self._consumer.assign(partitions)
            self.starts = await self._consumer.beginning_offsets(partitions)
            self.ends = await self._consumer.end_offsets(partitions)
        except KafkaError as error:
            raise reading_failed(self._settings, self.name, error) from error

    def __len__(self) -> int:
        """Number of records. It may be a few too many: offsets have gaps."""
        return sum(end - self.starts[tp] for tp, end in self.ends.items())

    async def offsets_at(self, time: int) -> dict[TopicPartition, int]:
        """The first offset of each partition whose record was sent at `time` or later; the partition's end if there is none.

        Args:
            time: Milliseconds since the epoch.

        Raises:
            BrokerUnreachable: The broker went away.
            TopicsError: The broker refuses.
        """
        try:
            found = await self._consumer.offsets_for_times(dict.fromkeys(self.ends, time))
        except KafkaError as error:
            raise reading_failed(self._settings, self.name, error) from error
        return {tp: end if found[tp] is None else min(found[tp].offset, end) for tp, end in self.ends.items()}

    def seek_to_start(self) -> None:
        """Continue at the start of each partition."""
        self._silence = 0.0
        for tp, start in self.starts.items():
            self._consumer.seek(tp, start)

    async def at_end(self, tp: TopicPartition) -> bool:
        """Whether a partition has been read to its end."""
        return self.ends[tp] <= self.starts[tp] or await self._consumer.position(tp) >= self.ends[tp]

    async def everything(
        self, since: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[tuple[int, list[Any]]]:
        """Partition and records of each batch from the start of the topic to its end. Raises as `next_records` does.

        Args:
            since: Offsets to begin at instead of the start.
        """
        self.seek_to_start()
        for tp, offset in (since or {}).items():
            self._consumer.seek(tp, max(offset, self.starts[tp]))
        left = list(self.ends)
        while left := [tp for tp in left if not await self.at_end(tp)]:
            for tp, records in (await self.next_records(left)).items():
                yield tp.partition, records

    async def next_records(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, list[Any]]:
        """The next records of some of these partitions, or of none. The position may advance even then, over gaps in the offsets.

        An `UnreadableRecord` stands for records that cannot be read.

        Raises:
            BrokerUnreachable: The broker was silent for longer than `broker_timeout`, or went away.
            TopicsError: The broker refuses.
        """
        begun = monotonic()
        try:
            found = await self._consumer.getmany(*partitions, timeout_ms=WAIT)
        except KafkaError as error:
            raise reading_failed(self._settings, self.name, error) from error
        self._silence = 0.0 if found else self._silence + monotonic() - begun
        if self._silence > self._settings.broker_timeout:
            raise BrokerUnreachable(
                f"the broker at {self._settings.broker} was silent for {self._settings.broker_timeout:g} s "
                f"(TASTESTREAM_BROKER_TIMEOUT) while {self.name} was read"
            )
        return {tp: [one for one in records if one.offset < self.ends[tp]] for tp, records in found.items()}


def reading_failed(settings: Settings, topic: str, error: KafkaError) -> BrokerUnreachable | TopicsError:
    """What an error of a consumer means. `topic`: that was read."""
    if isinstance(error, KafkaConnectionError):
        return BrokerUnreachable(f"the broker at {settings.broker} went away: {error}")
    return TopicsError(f"topic {topic} could not be read: {error!r}")
