"""Every partition is assigned once, and each worker has the tables of the events that it gets."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from streams.engine.assignor import TablesAssignor

EVENTS, CHANGELOG = "events", "changelog"


class Cluster:
    """The topics at the broker: their numbers of partitions."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self._counts.get(topic)
        return set(range(count)) if count else None


class Member:
    """One worker of the group. It remembers what it was assigned, as Faust does."""

    def __init__(self, name: str) -> None:
        tables = SimpleNamespace(changelog_topics={CHANGELOG}, data={})
        sensors = SimpleNamespace(
            on_assignment_start=_ignore, on_assignment_completed=_ignore, on_assignment_error=_ignore
        )
        conf = SimpleNamespace(canonical_url=f"http://{name}")
        app: Any = SimpleNamespace(tables=tables, conf=conf, tracer=None, sensors=sensors)
        self.name = name
        self.assignor = TablesAssignor(app)
        self.assigned: dict[str, set[int]] = {}

    @property
    def metadata(self) -> ConsumerProtocolMemberMetadata:
        return self.assignor.metadata({EVENTS, CHANGELOG})


def _ignore(*_: Any) -> None:
    return None


def rebalance(members: list[Member], **counts: int) -> None:
    """The first member assigns; all learn what they got."""
    answers = members[0].assignor.assign(Cluster(counts), {one.name: one.metadata for one in members})  # pyright: ignore
    for member in members:
        member.assignor.on_assignment(answers[member.name])  # pyright: ignore
        member.assigned = {topic: set(numbers) for topic, numbers in answers[member.name].assignment}


def spread(members: list[Member], topic: str) -> list[int]:
    """The partitions of a topic that the members have, in order."""
    return sorted(number for one in members for number in one.assigned.get(topic, ()))


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("events", [4, 6, 9])
def test_workers_have_the_tables_of_the_events_that_they_get(workers: int, events: int) -> None:
    members = [Member(f"worker-{number}") for number in range(workers)]
    for counts in ({EVENTS: 4, CHANGELOG: 4}, {EVENTS: events, CHANGELOG: 4}, {EVENTS: events, CHANGELOG: 4}):
        rebalance(members, **counts)
        assert spread(members, EVENTS) == list(range(counts[EVENTS]))
        assert spread(members, CHANGELOG) == [0, 1, 2, 3]
        for one in members:
            assert {number for number in one.assigned.get(EVENTS, ()) if number < 4} == one.assigned.get(
                CHANGELOG, set()
            )


def test_a_worker_that_joins_takes_over_whole_partitions() -> None:
    first, second = Member("first"), Member("second")
    rebalance([first], events=6, changelog=4)
    rebalance([first, second], events=6, changelog=4)
    assert spread([first, second], EVENTS) == [0, 1, 2, 3, 4, 5]
    assert {len(one.assigned[CHANGELOG]) for one in (first, second)} == {2}


def test_a_changelog_with_more_partitions_is_assigned_as_far_as_the_events_reach() -> None:
    members = [Member("first"), Member("second")]
    rebalance(members, events=4, changelog=6)
    assert spread(members, EVENTS) == spread(members, CHANGELOG) == [0, 1, 2, 3]


def test_nothing_is_assigned_while_a_topic_is_missing_and_all_of_it_afterwards() -> None:
    members = [Member("first"), Member("second")]
    rebalance(members, events=4, changelog=4)
    rebalance(members, changelog=4)
    assert spread(members, CHANGELOG) == []
    rebalance(members, events=4, changelog=4)
    assert spread(members, EVENTS) == spread(members, CHANGELOG) == [0, 1, 2, 3]


def test_topics_with_fewer_partitions_than_before_are_assigned() -> None:
    members = [Member("first"), Member("second")]
    rebalance(members, events=6, changelog=6)
    rebalance(members, events=2, changelog=6)
    assert spread(members, EVENTS) == spread(members, CHANGELOG) == [0, 1]
