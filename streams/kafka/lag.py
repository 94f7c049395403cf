"""How far a consumer group is behind its topic, partition by partition, whether a worker has the partition or not. Pure.

A worker knows the lag of its own partitions only. Here the committed offsets of the group are compared with the ends of all
partitions, so that events in a partition that nobody reads count too. `observing.py` asks the brokers.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Annotated

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import OffsetAndMetadata
from msgspec import Meta, Struct

from streams.kafka.metadata import DescribedTopic, marked_id

STABLE = "Stable"  # the state of a group whose members have their partitions


class Owner(Struct, frozen=True):
    """The worker that has a partition."""

    client: Annotated[str, Meta(description="its client id")]
    host: Annotated[str, Meta(description="address from which it is connected to the broker")]
    member: Annotated[str, Meta(description="its id in the group")]


class PartitionLag(Struct, frozen=True, kw_only=True):
    """How far a group is behind in one partition."""

    partition: Annotated[int, Meta(ge=0)]
    position: (
        Annotated[int, Meta(ge=0, description="offset of the first unfinished event; null if it is unknown")] | None
    )
    events: Annotated[int, Meta(ge=0, description="unfinished events; null if it is unknown")] | None
    seconds: (
        Annotated[
            float, Meta(ge=0, description="age of the oldest of them; 0 if there are none, null if it is unknown")
        ]
        | None
    )
    owner: Annotated[Owner, Meta(description="the worker that has the partition; null if none has")] | None


class GroupLag(Struct, frozen=True, kw_only=True):
    """How far a group is behind in its topic."""

    topic: str
    group: Annotated[str, Meta(description="consumer group that reads the topic")]
    state: Annotated[str, Meta(description='as the broker names it: "Stable", "Empty", ...; "" if it is unknown')]
    members: Annotated[int, Meta(ge=0, description="workers in the group")]
    partitions: list[PartitionLag]

    @property
    def events(self) -> int | None:
        """The sum over the partitions; None if one is unknown."""
        found = [one.events for one in self.partitions]
        return None if None in found else sum(one or 0 for one in found)

    @property
    def seconds(self) -> float | None:
        """The age of the oldest unfinished event; None if one is unknown."""
        found = [one.seconds for one in self.partitions]
        return None if None in found else max((one or 0.0 for one in found), default=0.0)

    @property
    def unowned(self) -> list[int]:
        """Partitions that no worker has, once the group has come to rest. During a rebalance nobody knows."""
        if self.state not in (STABLE, "Empty", "Dead"):
            return []
        return [one.partition for one in self.partitions if one.owner is None]


def positions(
    topic: DescribedTopic,
    committed: Mapping[TopicPartition, OffsetAndMetadata],
    starts: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The first offset of each partition that a group has yet to finish, as its workers would go on.

    Args:
        topic: as it is now. Offsets that were committed for an earlier topic of the same name do not count.
        committed: offsets of the group; -1 where it never committed.
        starts: the first offset of each partition that is known.
    """
    found: dict[TopicPartition, int] = {}
    for tp, start in starts.items():
        offset, text = committed.get(tp, (-1, ""))
        other = DescribedTopic(0, marked_id(text)).is_another(topic)
        found[tp] = start if other else max(offset, start)
    return found


def unfinished(
    positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Number of events behind each position. A partition is missing where that is unknown: it ends before its position."""
    return {tp: ends[tp] - position for tp, position in positions.items() if position <= ends.get(tp, -1)}


def partition_lags(
    partitions: Iterable[TopicPartition],
    at: Mapping[TopicPartition, int],
    events: Mapping[TopicPartition, int],
    times: Mapping[TopicPartition, int],
    owners: Mapping[TopicPartition, Owner],
    *,
    now: int,
) -> list[PartitionLag]:
    """The lag of each partition of a topic.

    Args:
        partitions: all of them, in order.
        at: position of the group in each, where it is known.
        events: number of unfinished events, where it is known.
        times: when the first of them was sent, where it is known.
        owners: the workers that have partitions.
        now: the clock; milliseconds since the epoch, as `times`.
    """
    found: list[PartitionLag] = []
    for tp in partitions:
        count = events.get(tp)
        seconds = None if count is None else 0.0
        if count:
            seconds = max(0.0, (now - times[tp]) / 1000) if tp in times else None
        found.append(
            PartitionLag(
                partition=tp.partition, position=at.get(tp), events=count, seconds=seconds, owner=owners.get(tp)
            )
        )
    return found


def owners_of(members: Iterable[tuple[Owner, bytes]]) -> dict[TopicPartition, Owner]:
    """The owner of each partition, by what the leader of the group assigned to each member. What cannot be read owns nothing."""
    found: dict[TopicPartition, Owner] = {}
    for owner, assignment in members:
        try:
            assigned = ConsumerProtocolMemberAssignment.decode(BytesIO(assignment)).partitions() if assignment else []
        except (ValueError, TypeError):  # another protocol
            continue
        found.update(dict.fromkeys(assigned, owner))
    return found


def total(groups: Sequence[GroupLag]) -> tuple[int | None, float | None]:
    """Unfinished events of all groups, and the age of the oldest; None where one is unknown."""
    events, seconds = [one.events for one in groups], [one.seconds for one in groups]
    return (
        None if None in events else sum(one or 0 for one in events),
        None if None in seconds else max((one or 0.0 for one in seconds), default=0.0),
    )
