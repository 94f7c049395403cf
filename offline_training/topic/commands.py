"""Reads the interactions topic into a recording, once, with its progress."""

from collections.abc import Callable
from typing import NamedTuple

from aiokafka import TopicPartition

from offline_training.topic.recording import RecordPosition, TopicRecording
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.records import UnreadableRecord
from streams.settings import Settings


class SentBetween(NamedTuple):
    """A range of send times, in milliseconds since the epoch.

    Attributes:
        since: the first time in the range; None: the start of the topic.
        until: the first time after the range; None: the end of the topic now.
    """

    since: int | None = None
    until: int | None = None


async def record(
    settings: Settings, sent: SentBetween, recording: TopicRecording, opened: Callable[[int], Callable[[int], object]]
) -> None:
    """Read the interactions topic up to its end now. Records the events in the range, and all erasures whenever they were sent.

    Args:
        settings: name the broker and the topic.
        sent: the range of send times.
        recording: receives the records.
        opened: told the number of records; returns a function that is told how many were read.

    Raises:
        BrokerUnreachable: the broker does not answer.
        TopicsError: the topic does not exist.
        DatasetError: the disk is full, or no event is left.
    """
    async with BoundedTopicReader(settings, settings.interactions_topic, "TASTESTREAM_INTERACTIONS_TOPIC") as topic:
        first = topic.starts if sent.since is None else await topic.offsets_at(sent.since)
        end = topic.ends if sent.until is None else await topic.offsets_at(sent.until)
        advance = opened(len(topic))
        topic.seek_to_start()
        reading: list[TopicPartition] = list(topic.ends)
        while reading := [tp for tp in reading if not await topic.at_end(tp)]:
            for tp, records in (await topic.next_records(reading)).items():
                for one in records:
                    wanted = first[tp] <= one.offset < end[tp]
                    position = RecordPosition(tp.topic, tp.partition, one.offset)
                    if isinstance(one, UnreadableRecord):
                        recording.leave_out(one.reason, one.problem, position, one.offset - one.first_offset + 1)
                        advance(one.offset - one.first_offset)
                        continue
                    recording.add(one.value, position, wanted=wanted)
                advance(len(records))
    recording.forget()
