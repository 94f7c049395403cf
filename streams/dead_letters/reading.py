"""Reads the dead letter topic, oldest letter first. It holds one batch of each partition in memory, however long the topic is."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from aiokafka import TopicPartition

from streams.dead_letter import Letter, parse_letter
from streams.dead_letters.notes import Note, is_note, parse_note
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.records import UnreadableRecord
from streams.settings import Settings


class DeadLetterReader(BoundedTopicReader):
    """The dead letters on the topic at the time of opening."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.dlq_topic, "TASTESTREAM_DLQ_TOPIC")

    async def letters(self, noted: Callable[[Note], object] = lambda _: None) -> AsyncGenerator[Letter]:
        """Yield the letters from the start of the topic, however often it is called. Call `noted` with each note on it.

        They are in the order of their times within a batch of each partition: workers make several letters at a time.

        Raises:
            BrokerUnreachable: The broker was silent for longer than `broker_timeout`, or went away.
            TopicsError: The broker refuses.
        """
        self.seek_to_start()
        waiting = {tp: deque[Letter]() for tp in self.ends}
        while True:
            await self._fill(waiting, noted)
            if not waiting:
                return
            yield min(waiting.values(), key=lambda letters: letters[0].at).popleft()

    async def _fill(self, waiting: dict[TopicPartition, deque[Letter]], noted: Callable[[Note], object]) -> None:
        """Wait until each partition has a letter. Drop the partitions that have been read to their end."""
        while empty := [tp for tp, letters in waiting.items() if not letters]:
            at_end = [tp for tp in empty if await self.at_end(tp)]
            for tp in at_end:
                del waiting[tp]
            if at_end:
                continue
            for tp, records in (await self.next_records(empty)).items():
                notes = [record for record in records if is_note(record.headers)]
                letters = [_letter(record) for record in records if not is_note(record.headers)]
                waiting[tp].extend(sorted(letters, key=lambda letter: letter.at))
                for note in notes:
                    if (parsed := parse_note(note.value)) is not None:
                        noted(parsed)


def _letter(record: Any) -> Letter:
    letter = parse_letter(
        record.key,
        record.value,
        record.headers,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
    )
    if isinstance(record, UnreadableRecord):  # counted under its own reason, and never sent again
        error = f"this dead letter cannot be read: {record.problem}"
        return replace(letter, reason=record.reason, error=error, first_offset=record.first_offset)
    return letter
