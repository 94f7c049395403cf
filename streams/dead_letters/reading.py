"""Reads the dead letter topic, oldest letter first. It holds one batch of each partition in memory, however long the topic is."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from aiokafka import TopicPartition

from streams.dead_letter import Letter, letter_of
from streams.dead_letters.notes import Note, is_note, parse_note
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.records import UnreadableRecord
from streams.settings import Settings


class DeadLetterReader(BoundedTopicReader):
    """The dead letters on the topic at the time of opening."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.dlq_topic, "TASTESTREAM_DLQ_TOPIC")

    async def letters(
        self, noted: Callable[[Note], object] = lambda _: None, since: int | None = None
    ) -> AsyncGenerator[Letter]:
        """Yield the letters from the start of the topic, however often it is called. Call `noted` with each note on it.

        Args:
            noted: is called.
            since: milliseconds since the epoch. Begin there instead of at the start.

        They are in the order of their times within a batch of each partition: workers make several letters at a time.

        Raises:
            BrokerUnreachable: The broker was silent for longer than `broker_timeout`, or went away.
            TopicsError: The broker refuses.
        """
        self.seek_to_start()
        for tp, offset in ({} if since is None else await self.offsets_at(since)).items():
            self._consumer.seek(tp, offset)
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

    async def letter(self, partition: int, offset: int) -> Letter | None:
        """The letter at a place; None if there is none. Raises as `letters` does."""
        tp = TopicPartition(self.name, partition)
        if tp not in self.ends or not self.starts[tp] <= offset < self.ends[tp]:
            return None
        self._consumer.seek(tp, offset)
        while not await self.at_end(tp):
            for record in (await self.next_records([tp])).get(tp, []):
                found = record.offset == offset and not is_note(record.headers)
                return _letter(record) if found else None
        return None


def _letter(record: Any) -> Letter:
    letter = letter_of(record)
    if isinstance(record, UnreadableRecord):  # counted under its own reason, and never sent again
        error = f"this dead letter cannot be read: {record.problem}"
        return replace(letter, reason=record.reason, error=error, first_offset=record.first_offset)
    return letter
