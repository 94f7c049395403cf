"""Where the embed worker begins to read the items of the shop."""

import pytest
from aiokafka import OffsetAndMetadata

from streams.embed.items import start_of
from streams.kafka.metadata import DescribedTopic

TOPIC = DescribedTopic(4, "one")


@pytest.mark.parametrize(
    ("committed", "start"),
    [
        (None, 3),
        (OffsetAndMetadata(7, TOPIC.mark), 7),
        (OffsetAndMetadata(9, TOPIC.mark), 9),
        (OffsetAndMetadata(7, ""), 7),  # by a broker without ids, or another tool
        (OffsetAndMetadata(2, TOPIC.mark), 3),  # the broker has dropped what follows
        (OffsetAndMetadata(10, TOPIC.mark), 3),  # of a topic before it, at a broker without ids
        (OffsetAndMetadata(7, DescribedTopic(4, "before").mark), 3),
    ],
)
def test_offsets_of_a_topic_that_was_deleted_do_not_count(committed: OffsetAndMetadata | None, start: int) -> None:
    assert start_of(committed, 3, 9, TOPIC) == start


def test_without_ids_offsets_of_either_topic_count() -> None:
    assert start_of(OffsetAndMetadata(7, ""), 3, 9, DescribedTopic(4)) == 7
