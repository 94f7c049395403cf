"""Faust's assignor for topics that may have more partitions than the tables.

Faust assigns topics together only if they have the same number of partitions. With partitions added to one of them, a worker
would get events without the table that they change. Here the topics are assigned together as far as all of them reach. What one
of them has above that goes to some worker as well, so that no record stays unread.
"""

from collections.abc import Callable
from typing import Any

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import CopartitionedGroups, MemberSubscriptionMapping, PartitionAssignor
from typing_extensions import override

from streams.bundles import Bundles
from streams.kafka.fleet import with_bundles


def round_robin(bundles: Callable[[], Bundles] | None) -> RoundRobinPartitionAssignor:
    """What Faust takes for an app without tables; but the worker says which bundles it has when it joins its group."""
    assignor = RoundRobinPartitionAssignor()
    of_topics = assignor.metadata
    assignor.metadata = lambda topics: _telling(of_topics(topics), bundles)  # pyright: ignore[reportAttributeAccessIssue]
    return assignor


def _telling(
    metadata: ConsumerProtocolMemberMetadata, bundles: Callable[[], Bundles] | None
) -> ConsumerProtocolMemberMetadata:
    if bundles is None:
        return metadata
    return ConsumerProtocolMemberMetadata(
        metadata.version, metadata.subscription, with_bundles(metadata.user_data, bundles())
    )


class TablesAssignor(PartitionAssignor):
    """Assigns the source topic of the tables and their changelogs together. All members of the group read the same topics."""

    app: Any  # an `EngineApp`
    _counts: dict[str, int]  # partitions by topic, at the last assignment

    @override
    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """What this worker sends when it joins its group: Faust's own data, and which bundles it has."""
        return _telling(super().metadata(topics), self.app.bundles)

    @override
    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        topics = {topic for member in member_metadata.values() for topic in member.subscription}
        self._counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        return super()._perform_assignment(cluster, member_metadata)

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
        super()._update_member_urls(clients_metadata)

    @property
    def _common(self) -> int:
        return min(self._counts.values(), default=0)

    @override
    def _protocol_assignments(
        self, assignments: Any, cl_distribution: Any, tp_distribution: Any, topic_groups: Any
    ) -> Any:
        """Hand out the partitions above the common ones, in turns."""
        common = self._common
        for assignment in assignments.values():
            assigned = set[int]().union(*assignment.actives.values())
            for topic, partitions in assignment.actives.items():
                if topic not in self._table_manager.changelog_topics:
                    partitions += [above for above in range(common, self._counts[topic]) if above % common in assigned]
        return super()._protocol_assignments(assignments, cl_distribution, tp_distribution, topic_groups)
