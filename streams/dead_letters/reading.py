"""The dead letter topic, oldest letter first. What is held in memory is a batch for each partition, however long the topic is."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from aiokafka import TopicPartition

from streams.dead_letter import Letter, parse_letter
from streams.kafka.bounded_topic import BoundedTopic
from streams.settings import Settings


class DeadLetterTopic(BoundedTopic):
    """The dead letters that there are now."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.dlq_topic, "TASTESTREAM_DLQ_TOPIC")

    async def letters(self) -> AsyncGenerator[Letter]:
        """The letters, in the order of their times as far as a batch sees: workers make several at a time. Can be called again.

        Raises BrokerUnreachable or TopicsError, as `more` does.
        """
        self.rewind()
        waiting = {tp: deque[Letter]() for tp in self.ends}
        while True:
            await self._fill(waiting)
            if not waiting:
                return
            yield min(waiting.values(), key=lambda letters: letters[0].at).popleft()

    async def _fill(self, waiting: dict[TopicPartition, deque[Letter]]) -> None:
        """Wait until each partition has a letter; drop those that have no more."""
        while empty := [tp for tp, letters in waiting.items() if not letters]:
            over = [tp for tp in empty if await self.over(tp)]
            for tp in over:
                del waiting[tp]
            if over:
                continue
            for tp, records in (await self.more(empty)).items():
                waiting[tp].extend(sorted(map(_letter, records), key=lambda letter: letter.at))


def _letter(record: Any) -> Letter:
    return parse_letter(
        record.key,
        record.value,
        record.headers,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
    )
