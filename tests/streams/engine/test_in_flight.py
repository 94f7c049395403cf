"""Exactly the finished prefix of each partition is committable, in whatever order the work ends."""

import asyncio

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.in_flight import InFlightTracker, Pending
from tests.records import record

TOPIC = "events"


def tp(partition: int) -> TopicPartition:
    return TopicPartition(TOPIC, partition)


async def taken_from(partitions: list[int], limit: int = 100) -> tuple[InFlightTracker, list[Pending]]:
    """A tracker with one record per entry, on that partition, and the records taken from it: all of them."""
    tracker = InFlightTracker(limit)
    tracker.begin({tp(number): 0 for number in set(partitions)})
    pending: list[Pending] = []
    for number in partitions:
        tracker.put(tp(number), [record(TOPIC, number, tracker.positions[tp(number)])])
        pending += await tracker.take(1)
    return tracker, pending


def finished_prefix(pending: list[Pending], partitions: list[int], partition: int) -> int:
    mine = [one for one, number in zip(pending, partitions, strict=True) if number == partition]
    return next((one.offset for one in mine if not one.finished), len(mine))


async def rooms(tracker: InFlightTracker) -> dict[TopicPartition, int]:
    """How many records fit, by partition."""
    return {one: room.records for one, room in (await tracker.room()).items()}


arrivals = st.lists(st.integers(0, 2), min_size=1, max_size=20)


@given(arrivals, st.data())
async def test_at_any_time_exactly_the_finished_prefix_of_each_partition_is_committable(
    partitions: list[int], data: st.DataObject
) -> None:
    tracker, pending = await taken_from(partitions)
    for number in data.draw(st.permutations(range(len(pending)))):
        pending[number].finish()
        expected = {tp(one): finished_prefix(pending, partitions, one) for one in set(partitions)}
        assert tracker.committable() == {one: offset for one, offset in expected.items() if offset}
        assert len(tracker) == len(pending) - sum(expected.values())
    assert len(tracker) == 0


@given(arrivals, st.data())
async def test_nothing_of_an_ended_generation_becomes_committable(partitions: list[int], data: st.DataObject) -> None:
    tracker, pending = await taken_from(partitions)
    order = data.draw(st.permutations(range(len(pending))))
    cut = data.draw(st.integers(0, len(pending)))
    for number in order[:cut]:
        pending[number].finish()
    tracker.begin({tp(number): 0 for number in set(partitions)})
    for number in order[cut:]:
        assert pending[number].forgotten or pending[number].finished
        pending[number].finish()
    assert tracker.committable() == {}
    assert len(tracker) == 0


async def test_a_new_generation_does_not_wait_for_unfinished_records_of_an_earlier_one() -> None:
    tracker, [first, second] = await taken_from([0, 0])
    second.finish()
    tracker.begin({tp(0): 0})
    tracker.put(tp(0), [record(TOPIC, 0, 0)])
    [again] = await tracker.take(5)
    again.finish()
    assert tracker.committable() == {tp(0): 1}
    first.finish()
    assert tracker.committable() == {tp(0): 1}


async def test_a_committed_offset_is_no_longer_committable() -> None:
    tracker, pending = await taken_from([0, 0])
    pending[0].finish()
    tracker.committed(tracker.committable())
    assert tracker.committable() == {}
    pending[1].finish()
    assert tracker.committable() == {tp(0): 2}


async def test_finishing_twice_counts_once() -> None:
    tracker, pending = await taken_from([0, 0])
    pending[0].finish()
    pending[0].finish()
    assert tracker.committable() == {tp(0): 1}
    assert len(tracker) == 1


async def test_the_last_move_is_the_last_finish_or_attempt_or_the_first_record_after_none() -> None:
    tracker, pending = await taken_from([0, 0])
    arrived = tracker.moved
    assert arrived == pending[0].arrived <= pending[1].arrived, "a record that joins others is no progress"
    pending[1].finish()
    finished = tracker.moved
    tracker.progressed()
    assert arrived < finished < tracker.moved


async def test_known_offsets_and_unread_partitions_are_ignored() -> None:
    tracker = InFlightTracker(10)
    tracker.begin({tp(0): 5})
    tracker.put(tp(0), [record(TOPIC, 0, 4), record(TOPIC, 0, 5), record(TOPIC, 0, 6)])
    tracker.put(tp(0), [record(TOPIC, 0, 6), record(TOPIC, 0, 7)])
    tracker.put(tp(1), [record(TOPIC, 1, 0)])
    assert [one.record.offset for one in await tracker.take(10)] == [5, 6, 7]


async def test_there_is_room_again_when_the_oldest_record_is_finished() -> None:
    tracker, pending = await taken_from([0, 0], limit=2)
    waiting = asyncio.ensure_future(rooms(tracker))
    pending[1].finish()
    await asyncio.sleep(0)
    assert not waiting.done(), "the second waits behind the first"
    pending[0].finish()
    assert await waiting == {tp(0): 2}


async def test_a_partition_that_is_full_leaves_room_for_the_others() -> None:
    tracker = InFlightTracker(200)
    tracker.begin({tp(0): 0, tp(1): 0})
    tracker.put(tp(0), [record(TOPIC, 0, offset) for offset in range(100)])
    assert await rooms(tracker) == {tp(1): 100}
    tracker.put(tp(1), [record(TOPIC, 1, offset) for offset in range(100)])
    waiting = asyncio.ensure_future(tracker.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    tracker.forget()
    assert await waiting == {}, "nothing is read: there is nothing to wait for"


async def test_a_partition_is_crowded_when_it_fills_more_than_half_of_its_share_and_no_other_is() -> None:
    tracker = InFlightTracker(20)
    tracker.begin({tp(0): 0, tp(1): 0})
    tracker.put(tp(0), [record(TOPIC, 0, offset) for offset in range(8)])
    tracker.put(tp(1), [record(TOPIC, 1, 0)])
    taken = await tracker.take(9)
    assert not any(pending.crowded() for pending in taken)
    tracker.put(tp(0), [record(TOPIC, 0, 8)])
    assert [pending.crowded() for pending in taken] == [pending.record.partition == 0 for pending in taken]
    taken[0].finish()
    assert not any(pending.crowded() for pending in taken)


async def test_a_record_that_will_be_delivered_again_is_not_crowded() -> None:
    tracker = InFlightTracker(4)
    tracker.begin({tp(0): 0})
    tracker.put(tp(0), [record(TOPIC, 0, offset) for offset in range(4)])
    [first, *_] = await tracker.take(4)
    assert first.crowded()
    tracker.forget()
    assert not first.crowded()


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_partitions_take_turns_whatever_their_backlog(limit: int) -> None:
    tracker = InFlightTracker(1000)
    tracker.begin({tp(0): 0, tp(1): 0, tp(2): 0})
    for number, count in enumerate((100, 20, 20)):
        tracker.put(tp(number), [record(TOPIC, number, offset) for offset in range(count)])
    taken: list[Pending] = []
    while len(taken) < 60:
        taken += await tracker.take(limit)
    assert len({one.record.partition for one in taken[:3]}) == (3 if limit < 50 else 1)
    of = {number: [one.record.offset for one in taken if one.record.partition == number] for number in range(3)}
    assert all(offsets == sorted(offsets) for offsets in of.values())
    assert sum(len(offsets) == 20 for offsets in of.values()) >= 2, "the short ones are through"


async def test_a_batch_is_full_even_if_one_partition_has_few_records() -> None:
    tracker = InFlightTracker(1000)
    tracker.begin({tp(0): 0, tp(1): 0})
    for number, count in enumerate((3, 100)):
        tracker.put(tp(number), [record(TOPIC, number, offset) for offset in range(count)])
    taken = [one.record.partition for one in await tracker.take(50)]
    assert (taken.count(0), taken.count(1)) == (3, 47)


async def test_after_stop_nothing_is_handed_out_and_idle_waits_for_what_was_taken() -> None:
    tracker = InFlightTracker(10)
    tracker.begin({tp(0): 0})
    tracker.put(tp(0), [record(TOPIC, 0, 0), record(TOPIC, 0, 1)])
    [first] = await tracker.take(1)
    tracker.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tracker.take(1), 0.01)
    idle = asyncio.ensure_future(tracker.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    first.finish()
    await idle
    assert tracker.committable() == {tp(0): 1}


async def test_an_offset_without_a_record_is_committable_once_everything_before_it_is_finished() -> None:
    """The marker at the end of a transaction takes an offset, but is not a record."""
    tracker, [first, second] = await taken_from([0, 0])
    tracker.advance(tp(0), 3)
    first.finish()
    assert tracker.committable() == {tp(0): 1}
    second.finish()
    assert tracker.committable() == {tp(0): 3}
    tracker.advance(tp(0), 4)
    assert tracker.committable() == {tp(0): 4}


async def test_a_waiting_take_survives_records_that_disappear() -> None:
    tracker = InFlightTracker(10)
    tracker.begin({tp(0): 0})
    taking = asyncio.ensure_future(tracker.take(1))
    await asyncio.sleep(0)
    tracker.put(tp(0), [record(TOPIC, 0, 0)])
    tracker.stop()
    await asyncio.sleep(0)
    assert not taking.done()
    tracker.begin({tp(0): 0})
    tracker.put(tp(0), [record(TOPIC, 0, 0)])
    assert len(await taking) == 1
