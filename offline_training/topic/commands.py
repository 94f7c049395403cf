"""What `tastestream dataset topic` does: reads the topic once, into a file beside the data set, and says how far it is."""

from collections.abc import Callable
from typing import NamedTuple

from aiokafka import TopicPartition

from offline_training.topic.recorded import Place, Recorded
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.settings import Settings


class Window(NamedTuple):
    """When events were sent, in milliseconds: `since` is in, `until` is not; None for where the topic begins and ends."""

    since: int | None = None
    until: int | None = None


async def record(
    settings: Settings, window: Window, recorded: Recorded, opened: Callable[[int], Callable[[int], object]]
) -> None:
    """Read the interactions topic to where it ends now: the events of the window, and all erasures, whenever they were sent.

    Args:
        opened: told how many records there are; what it gives is told how many were read.

    Raises BrokerUnreachable or TopicsError; DatasetError when the disk is full, or there is no event.
    """
    async with BoundedTopicReader(settings, settings.interactions_topic, "TASTESTREAM_INTERACTIONS_TOPIC") as topic:
        first = topic.starts if window.since is None else await topic.offsets_at(window.since)
        end = topic.ends if window.until is None else await topic.offsets_at(window.until)
        advance = opened(len(topic))
        topic.seek_to_start()
        reading: list[TopicPartition] = list(topic.ends)
        while reading := [tp for tp in reading if not await topic.at_end(tp)]:
            for tp, records in (await topic.next_records(reading)).items():
                for one in records:
                    wanted = first[tp] <= one.offset < end[tp]
                    recorded.add(one.value, Place(tp.topic, tp.partition, one.offset), wanted=wanted)
                advance(len(records))
    recorded.forget()
