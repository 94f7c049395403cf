"""When the catalogue is read from its start."""

import pytest

from streams.kafka.metadata import DescribedTopic
from streams.serve.catalogue.follower import ABSENCE, why_anew
from streams.serve.catalogue.store import Source

NOW = 1_700_000_000.0
TOPIC = DescribedTopic(2, "one")
RECENT = Source(topic_id="one", read_at=NOW - ABSENCE)
ENDS = {0: 10, 1: 5}


@pytest.mark.parametrize(
    ("source", "offsets", "topic"),
    [
        (RECENT, {0: 10, 1: 5}, TOPIC),
        (RECENT, {0: 3}, TOPIC),
        (RECENT, {0: 3}, DescribedTopic(2)),  # a broker without ids
        (Source(read_at=NOW), {0: 3}, TOPIC),  # a broker that has learnt ids since
    ],
)
def test_it_goes_on_where_it_was(source: Source, offsets: dict[int, int], topic: DescribedTopic) -> None:
    assert why_anew(source, offsets, topic, ENDS, NOW) == ""


@pytest.mark.parametrize(
    ("source", "offsets", "topic", "problem"),
    [
        (RECENT, {0: 3}, DescribedTopic(2, "two"), "was deleted"),
        (RECENT, {0: 11}, DescribedTopic(2), "was deleted"),
        (RECENT, {0: 3, 2: 1}, DescribedTopic(2), "was deleted"),  # it has fewer partitions now
        (Source(topic_id="one", read_at=NOW - ABSENCE - 1), {0: 3}, TOPIC, "for long"),
        (Source(topic_id="one"), {0: 10, 1: 5}, TOPIC, "for long"),
    ],
)
def test_it_starts_over_where_removals_may_be_missing(
    source: Source, offsets: dict[int, int], topic: DescribedTopic, problem: str
) -> None:
    assert problem in why_anew(source, offsets, topic, ENDS, NOW)
