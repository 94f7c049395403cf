"""Looks at brokers that were never asked, for tests of what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from streams.kafka.groups import GroupMember
from streams.kafka.lag import STABLE, GroupLag, Owner, PartitionLag
from streams.kafka.metadata import DescribedTopic
from streams.kafka.observing import Look
from streams.kafka.remarks import Remark
from tests.streams.serve.made import NAMES, NOW

TOPICS = {"in": "embed", "embedded": "profile"}  # each with its group
PARTITIONS = 2


def member(name: str) -> GroupMember:
    return GroupMember(f"{name}-1", name, "/10.0.0.3", b"", b"")


@dataclass
class Story:
    """A system whose looks are taken one second apart."""

    at: int = NOW
    ends: dict[TopicPartition, int] = field(
        default_factory=lambda: {
            TopicPartition(name, number): 0 for name in NAMES.needed for number in range(PARTITIONS)
        }
    )
    states: dict[str, str] = field(default_factory=lambda: dict.fromkeys(TOPICS.values(), STABLE))
    members: dict[str, list[str]] = field(default_factory=lambda: {"embed": ["ada"], "profile": ["bob"]})
    ids: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES.needed, "one"))
    waiting: dict[TopicPartition, tuple[int, float]] = field(default_factory=dict[TopicPartition, tuple[int, float]])
    remarks: dict[TopicPartition, Remark] = field(default_factory=dict[TopicPartition, Remark])
    unowned: set[TopicPartition] = field(default_factory=set[TopicPartition])

    def grow(self, topic: str, records: int, partition: int = 0) -> None:
        """Records are written and finished."""
        self.ends[TopicPartition(topic, partition)] += records

    def wait(self, topic: str, events: int, seconds: float, partition: int = 0) -> None:
        """The last events of a partition are unfinished, and the oldest is so old."""
        self.waiting[TopicPartition(topic, partition)] = events, seconds

    def look(self, seconds: float = 1.0) -> Look:
        """Look after a pause."""
        self.at += round(seconds * 1000)
        topics = {name: DescribedTopic(PARTITIONS, number, (0,) * PARTITIONS) for name, number in self.ids.items()}
        members = {group: [member(name) for name in names] for group, names in self.members.items()}
        groups = [
            GroupLag(
                topic=topic,
                group=group,
                state=self.states[group],
                members=len(members[group]),
                partitions=[self._lag(topic, number, members[group]) for number in range(PARTITIONS)],
            )
            for topic, group in TOPICS.items()
        ]
        ends = {tp: end for tp, end in self.ends.items() if tp.topic in self.ids}
        return Look(self.at, topics, dict.fromkeys(ends, 0), ends, groups, members, dict(self.remarks))

    def _lag(self, topic: str, number: int, members: Sequence[GroupMember]) -> PartitionLag:
        tp = TopicPartition(topic, number)
        events, seconds = self.waiting.get(tp, (0, 0.0))
        first = members[0] if members and tp not in self.unowned else None
        owner = Owner(first.client, "10.0.0.3", first.id) if first else None
        return PartitionLag(
            partition=number, position=self.ends[tp] - events, events=events, seconds=seconds, owner=owner
        )


Ends = Mapping[TopicPartition, int]
