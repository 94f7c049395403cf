"""Every partition is assigned once, and each worker has the tables of the events that it gets."""

import json
from io import BytesIO
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from typing_extensions import override

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.engine.assignor import TablesAssignor, round_robin
from streams.kafka.fleet import BundleName, bundles_of

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

    assignor_class = TablesAssignor

    def __init__(self, name: str, bundles: Bundles | None = None) -> None:
        tables = SimpleNamespace(changelog_topics={CHANGELOG}, data={})
        sensors = SimpleNamespace(
            on_assignment_start=_ignore, on_assignment_completed=_ignore, on_assignment_error=_ignore
        )
        conf = SimpleNamespace(canonical_url=f"http://{name}")
        app: Any = SimpleNamespace(
            tables=tables,
            conf=conf,
            tracer=None,
            sensors=sensors,
            bundles=bundles and (lambda: bundles),
            topics_generation=1,
            warm=lambda: None,
        )
        self.name = name
        self.app = app
        self.assignor = self.assignor_class(app)
        self.assigned: dict[str, set[int]] = {}

    @property
    def sent(self) -> bytes:
        """What it sends when it joins."""
        return self.assignor.metadata({EVENTS, CHANGELOG}).encode()

    @property
    def metadata(self) -> ConsumerProtocolMemberMetadata:
        """What the leader gets from it."""
        return ConsumerProtocolMemberMetadata.decode(BytesIO(self.sent))


class _EarlyAssignor(TablesAssignor):
    @override
    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        return PartitionAssignor.metadata(self, topics)


class EarlyMember(Member):
    """A worker of the version before, which says nothing about bundles."""

    assignor_class = _EarlyAssignor


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


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def test_a_worker_says_which_bundles_it_has_whatever_it_was_assigned_before(bundle: Bundle) -> None:
    member = Member("worker", Bundles(bundle))
    for _ in range(2):
        said = bundles_of(member.sent)
        assert said is not None
        assert said.served == BundleName.of(bundle)
        assert said.next is None
        rebalance([member], events=4, changelog=4)


def test_a_worker_that_joins_again_says_which_bundles_it_has_now(bundle: Bundle) -> None:
    member = Member("worker", Bundles(bundle))
    rebalance([member], events=4, changelog=4)
    member.app.bundles = lambda: Bundles(bundle, bundle)
    said = bundles_of(member.sent)
    assert said is not None
    assert said.next == BundleName.of(bundle)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_workers_of_this_version_and_of_the_one_before_share_the_partitions_whoever_leads(
    bundle: Bundle, order: tuple[int, ...]
) -> None:
    three = [Member("now", Bundles(bundle)), EarlyMember("before"), Member("now, preparing", Bundles(bundle, bundle))]
    members = [three[place] for place in order]  # the first one leads
    for number in (1, 2, 3, 3, 2):  # they join one after the other, and one leaves
        rebalance(members[:number], events=6, changelog=6)
        assert spread(members[:number], EVENTS) == spread(members[:number], CHANGELOG) == list(range(6))
    assert [bundles_of(one.sent) is None for one in three] == [False, True, False]


def test_what_an_early_worker_sends_is_what_the_version_before_sent() -> None:
    member = EarlyMember("worker")
    rebalance([member], events=2, changelog=2)
    assert json.loads(member.metadata.user_data) == {
        "assignment": {"actives": {EVENTS: [0, 1], CHANGELOG: [0, 1]}, "standbys": {EVENTS: [], CHANGELOG: []}},
        "url": "http://worker",
        "changelog_distribution": {"http://worker": {CHANGELOG: [0, 1]}},
        "external_topic_distribution": {"http://worker": {EVENTS: [0, 1]}},
        "topic_groups": {EVENTS: 0, CHANGELOG: 0},
    }


def test_a_worker_without_tables_says_which_bundles_it_has_and_is_assigned_what_others_assign(bundle: Bundle) -> None:
    now, before = round_robin(lambda: Bundles(bundle)), RoundRobinPartitionAssignor
    sent = now.metadata({EVENTS}).encode()
    said = bundles_of(sent)
    assert said is not None
    assert said.served == BundleName.of(bundle)
    members = {
        "now": ConsumerProtocolMemberMetadata.decode(BytesIO(sent)),
        "before": before.metadata({EVENTS}),
    }
    cluster: Any = Cluster({EVENTS: 5})
    assert now.assign(cluster, members) == before.assign(cluster, members)
    assert now.name == before.name
    assert bundles_of(round_robin(None).metadata({EVENTS}).encode()) is None


def test_a_worker_without_bags_is_held_back_until_it_says_that_it_has_them() -> None:
    first, new = Member("first"), Member("new")
    for one in (first, new):
        one.app.warm = list[int]
    rebalance([first], events=4, changelog=4)
    rebalance([first, new], events=4, changelog=4)
    assert [len(one.assigned.get(CHANGELOG, ())) for one in (first, new)] == [4, 0]
    assert [one.assignor.held_back for one in (first, new)] == [False, True]
    new.app.warm = lambda: range(4)
    rebalance([first, new], events=6, changelog=4)
    assert [len(one.assigned[CHANGELOG]) for one in (first, new)] == [2, 2]
    assert spread([first, new], EVENTS) == list(range(6))
    assert [one.assignor.held_back for one in (first, new)] == [False, False]
    rebalance([new], events=6, changelog=4)
    assert spread([new], CHANGELOG) == list(range(4))
