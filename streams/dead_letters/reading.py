"""The dead letter topic, read from its start to where it ends when it is opened, oldest first.

Reads outside of any consumer group: nothing is committed, and nobody else's reading is disturbed. What is held in memory
is a batch for each partition, however long the topic is.
"""

from collections import deque
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.dead_letters.record import Letter, parse_letter
from streams.exceptions import BrokerUnreachable, TopicsError
from streams.settings import Settings
from streams.topics import connect

BATCH = 500  # letters held for one partition at most; a fetch brings a megabyte of it
WAIT = 1000  # milliseconds for one answer of the broker


class DeadLetterTopic:
    """The dead letters that there are now. An asynchronous context manager.

    Opening it raises BrokerUnreachable, or TopicsError when there is no such topic or it may not be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.name = settings.dlq_topic
        self.topics: set[str] = set()  # all that the broker has
        self._settings = settings
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(), auto_offset_reset="earliest", enable_auto_commit=False, max_poll_records=BATCH
        )
        self._starts: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> "DeadLetterTopic":
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
                "TASTESTREAM_DLQ_TOPIC names another"
            )
        partitions = [TopicPartition(self.name, one["partition"]) for one in described[self.name]["partitions"]]
        try:
            await self._consumer.start()
            self._consumer.assign(partitions)
            self._starts = await self._consumer.beginning_offsets(partitions)
            self._ends = await self._consumer.end_offsets(partitions)
        except KafkaConnectionError as error:
            raise BrokerUnreachable(f"the broker at {settings.broker} went away: {error}") from error
        except KafkaError as error:
            raise TopicsError(f"topic {self.name} could not be read: {error!r}") from error

    def __len__(self) -> int:
        """Letters on the topic, or a few more: offsets may have gaps."""
        return sum(end - self._starts[tp] for tp, end in self._ends.items())

    async def letters(self) -> AsyncGenerator[Letter]:
        """The letters, in the order of their times as far as a batch sees: workers make several at a time. Can be called again.

        Raises BrokerUnreachable when the broker is silent for longer than `broker_timeout`, TopicsError when it refuses.
        """
        for tp, start in self._starts.items():
            self._consumer.seek(tp, start)
        waiting = {tp: deque[Letter]() for tp, end in self._ends.items() if end > self._starts[tp]}
        while True:
            try:
                await self._fill(waiting)
            except KafkaError as error:
                raise TopicsError(f"topic {self.name} could not be read: {error!r}") from error
            if not waiting:
                return
            yield min(waiting.values(), key=lambda letters: letters[0].at).popleft()

    async def _fill(self, waiting: dict[TopicPartition, deque[Letter]]) -> None:
        """Wait until each partition has a letter; drop those that have no more."""
        answered = monotonic()
        while empty := [tp for tp, letters in waiting.items() if not letters]:
            over = [tp for tp in empty if await self._consumer.position(tp) >= self._ends[tp]]
            for tp in over:
                del waiting[tp]
            if over:
                continue
            found = await self._consumer.getmany(*empty, timeout_ms=WAIT)
            for tp, records in found.items():
                letters = [self._letter(record) for record in records if record.offset < self._ends[tp]]
                waiting[tp].extend(sorted(letters, key=lambda letter: letter.at))
            if found:
                answered = monotonic()
            elif monotonic() - answered > self._settings.broker_timeout:
                raise BrokerUnreachable(
                    f"the broker at {self._settings.broker} was silent for {self._settings.broker_timeout:g} s "
                    f"(TASTESTREAM_BROKER_TIMEOUT) while {self.name} was read"
                )

    @staticmethod
    def _letter(record: Any) -> Letter:
        return parse_letter(
            record.key,
            record.value,
            record.headers,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
        )
