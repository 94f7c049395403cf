"""Faust's assignor for topics that may have more partitions than the tables.

Faust assigns topics together only if they have the same number of partitions. With partitions added to one of them, a worker
would get events without the table that they change. Here the topics are assigned together as far as all of them reach. What one
of them has above that goes to some worker as well, so that no record stays unread.
"""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import CopartitionedGroups, MemberSubscriptionMapping, PartitionAssignor
from typing_extensions import override

from streams.bundles import Bundles
from streams.engine.placement import held_back, place
from streams.kafka.fleet import with_bundles, with_field, with_generation


def round_robin(
    bundles: Callable[[], Bundles] | None, generation: Callable[[], int] = lambda: 1
) -> RoundRobinPartitionAssignor:
    """What Faust takes for an app without tables; but the worker says when it joins which bundles and internal topics it uses."""
    assignor = RoundRobinPartitionAssignor()
    of_topics = assignor.metadata
    assignor.metadata = lambda topics: _telling(of_topics(topics), bundles, generation())  # pyright: ignore[reportAttributeAccessIssue]
    return assignor


def _telling(
    metadata: ConsumerProtocolMemberMetadata, bundles: Callable[[], Bundles] | None, generation: int
) -> ConsumerProtocolMemberMetadata:
    if bundles is None:
        return metadata
    told = with_generation(with_bundles(metadata.user_data, bundles()), generation)
    return ConsumerProtocolMemberMetadata(metadata.version, metadata.subscription, told)


class _Member(msgspec.Struct):
    """What a worker with a standby adds to the data that it sends when it joins."""

    warm: list[int] | None = None


class _Given(msgspec.Struct):
    """What the leader adds to the data that it sends with the partitions."""

    held_back: bool = False


WARM, HELD_BACK = "warm", "held_back"  # the fields of these


class TablesAssignor(PartitionAssignor):
    """Assigns the source topic of the tables and their changelogs together. All members of the group read the same topics.

    Attributes:
        held_back: whether this worker got less than its share, because others have more bags on disk.
    """

    app: Any  # an `EngineApp`
    held_back = False
    _counts: dict[str, int]  # partitions by topic, at the last assignment
    _owned: dict[str, set[int]]  # partitions that each member had before it
    _warm: dict[str, list[int] | None]  # partitions that each member could take over at once; None if it does not say

    @override
    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """What this worker sends when it joins its group: Faust's own data, which bundles it has, and which bags."""
        sent = _telling(super().metadata(topics), self.app.bundles, self.app.topics_generation)
        warm: Collection[int] | None = self.app.warm()
        if warm is None:
            return sent
        return ConsumerProtocolMemberMetadata(
            sent.version, sent.subscription, with_field(sent.user_data, WARM, sorted(warm))
        )

    @override
    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        topics = {topic for member in member_metadata.values() for topic in member.subscription}
        self._counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        self._warm = {
            one: msgspec.json.decode(member.user_data, type=_Member).warm for one, member in member_metadata.items()
        }
        return super()._perform_assignment(cluster, member_metadata)

    @override
    def on_assignment(self, assignment: Any) -> None:
        super().on_assignment(assignment)
        self.held_back = msgspec.json.decode(self._decompress(assignment.user_data), type=_Given).held_back

    @classmethod
    @override
    def _get_copartitioned_groups(
        cls, topics: set[str], cluster: Any, subscriptions: MemberSubscriptionMapping
    ) -> CopartitionedGroups:
        common = min((len(cluster.partitions_for_topic(topic) or ()) for topic in topics), default=0)
        return {common: [topics]} if common else {}  # without one of the topics, nothing can be read

    @override
    def _update_member_urls(self, clients_metadata: Any) -> None:
        """Forget which partitions a member had that are not common to all topics. Faust calls this before it assigns."""
        common = self._common
        for client in clients_metadata.values():
            actives = client.assignment.actives
            client.assignment.actives = {
                topic: [number for number in numbers if number < common] for topic, numbers in actives.items()
            }
        self._owned = {
            one: set[int]().union(*client.assignment.actives.values()) for one, client in clients_metadata.items()
        }
        super()._update_member_urls(clients_metadata)

    @property
    def _common(self) -> int:
        return min(self._counts.values(), default=0)

    @override
    def _protocol_assignments(
        self, assignments: Any, cl_distribution: Any, tp_distribution: Any, topic_groups: Any
    ) -> Any:
        """Prefer members that have the bags of a partition. Hand out the partitions above the common ones, in turns."""
        common, short = self._common, set[str]()
        if any(warm is not None for warm in self._warm.values()):
            placed = place(common, self._owned, self._warm)
            short = held_back(placed)
            for member, assignment in assignments.items():
                assignment.actives = {topic: list(placed[member]) for topic in self._counts} if placed[member] else {}
            cl_distribution = self._get_changelog_distribution(assignments)
        for assignment in assignments.values():
            assigned = set[int]().union(*assignment.actives.values())
            for topic, partitions in assignment.actives.items():
                if topic not in self._table_manager.changelog_topics:
                    partitions += [above for above in range(common, self._counts[topic]) if above % common in assigned]
        answers = super()._protocol_assignments(assignments, cl_distribution, tp_distribution, topic_groups)
        for member in short:
            given = answers[member]
            data = self._compress(with_field(self._decompress(given.user_data), HELD_BACK, True))
            answers[member] = ConsumerProtocolMemberAssignment(given.version, given.assignment, data)
        return answers
