"""The lag of a group counts every partition, says what it does not know, and never takes an old offset for a new one."""

from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import OffsetAndMetadata

from streams.kafka.lag import (
    GroupLag,
    Owner,
    PartitionLag,
    owners_of,
    partition_lags,
    positions,
    total,
    unfinished,
)
from streams.kafka.metadata import DescribedTopic

TOPIC = DescribedTopic(3, "of-now", (0, 0, 0))
TPS = [TopicPartition("events", number) for number in range(3)]
ADA = Owner("shop", "10.0.0.3", "shop-1")
NOW = 1_700_000_060_000


def at(committed: int, text: str = "", start: int = 0) -> int:
    return positions(TOPIC, {TPS[0]: OffsetAndMetadata(committed, text)}, {TPS[0]: start})[TPS[0]]


def test_a_group_goes_on_at_its_commit() -> None:
    assert at(7) == 7
    assert at(7, TOPIC.mark) == 7


def test_a_group_that_never_committed_begins_at_the_start() -> None:
    assert at(-1, start=3) == 3
    assert positions(TOPIC, {}, {TPS[0]: 3}) == {TPS[0]: 3}


def test_records_that_are_deleted_by_now_are_no_lag() -> None:
    assert at(7, start=100) == 100


def test_an_offset_of_the_topic_before_does_not_count() -> None:
    assert at(7, DescribedTopic(3, "of-before").mark) == 0


def test_a_partition_that_ends_before_its_commit_is_unknown() -> None:
    assert unfinished({TPS[0]: 7, TPS[1]: 7, TPS[2]: 7}, {TPS[0]: 6, TPS[1]: 7}) == {TPS[1]: 0}


def lag_of(events: int | None, time: int | None = None, owner: Owner | None = None) -> PartitionLag:
    known = {} if events is None else {TPS[0]: events}
    times = {} if time is None else {TPS[0]: time}
    owners = {TPS[0]: owner} if owner else {}
    [found] = partition_lags(TPS[:1], {TPS[0]: 7}, known, times, owners, now=NOW)
    return found


def test_the_age_is_that_of_the_first_unfinished_event() -> None:
    assert lag_of(3, NOW - 60_000).seconds == 60
    assert lag_of(0).seconds == 0
    assert lag_of(3).seconds is None
    assert lag_of(None, NOW).seconds is None
    assert lag_of(3, NOW + 5).seconds == 0, "the clock of the producer is ahead"


def group(*lags: PartitionLag, state: str = "Stable") -> GroupLag:
    return GroupLag(topic="events", group="workers", state=state, members=1, partitions=list(lags))


def test_one_unknown_partition_makes_the_sum_unknown() -> None:
    known, unknown = lag_of(3, NOW - 1000), lag_of(None)
    assert (group(known, known).events, group(known, lag_of(0)).seconds) == (6, 1)
    assert (group(known, unknown).events, group(known, unknown).seconds) == (None, None)
    assert total([group(known), group(known, known)]) == (9, 1)
    assert total([group(known), group(unknown)]) == (None, None)


def test_a_partition_has_no_owner_only_where_that_is_known() -> None:
    owned, free = lag_of(0, owner=ADA), lag_of(0)
    assert group(owned).unowned == []
    assert group(free).unowned == group(free, state="Empty").unowned == [0]
    assert group(free, state="PreparingRebalance").unowned == []
    assert group(free, state="").unowned == []


def assigned(*partitions: int, topic: str = "events") -> bytes:
    made: Any = ConsumerProtocolMemberAssignment(0, [(topic, list(partitions))], b"")
    return made.encode()


def test_a_member_owns_what_it_was_assigned() -> None:
    bob = Owner("shop", "10.0.0.4", "shop-2")
    found = owners_of([(ADA, assigned(0, 2)), (bob, assigned(1)), (bob, b"")])
    assert found == {TPS[0]: ADA, TPS[1]: bob, TPS[2]: ADA}


def test_a_member_of_another_protocol_owns_nothing() -> None:
    assert owners_of([(ADA, b"\x00\x01\xff")]) == {}
