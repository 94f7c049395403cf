"""Events are acknowledged in the order of their partition, whatever the order in which their work ends."""

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from streams.delivery import InOrderAcks, Pending


@dataclass
class Message:
    tp: int


@dataclass
class Event:
    """As much of an event as acknowledging needs."""

    tp: int
    number: int
    acked: list["Event"] = field(repr=False)

    @property
    def message(self) -> Message:
        return Message(self.tp)

    def ack(self) -> bool:
        self.acked.append(self)
        return True


def arrive(acks: InOrderAcks, partitions: list[int]) -> tuple[list[Event], list[Event], list[Pending]]:
    """One event for each entry, on that partition: the events, those acknowledged so far, and what is pending."""
    acked: list[Event] = []
    events = [Event(tp, number, acked) for number, tp in enumerate(partitions)]
    return events, acked, [acks.arrived(cast("Any", event)) for event in events]


def finished_prefix(events: list[Event], finished: set[int], tp: int) -> list[int]:
    prefix: list[int] = []
    for event in events:
        if event.tp == tp:
            if event.number not in finished:
                break
            prefix.append(event.number)
    return prefix


arrivals = st.lists(st.integers(0, 2), min_size=1, max_size=20)


@given(arrivals, st.data())
def test_at_any_time_exactly_the_finished_prefix_of_each_partition_is_acknowledged(
    partitions: list[int], data: st.DataObject
) -> None:
    acks = InOrderAcks()
    events, acked, pending = arrive(acks, partitions)
    finished: set[int] = set()
    for number in data.draw(st.permutations(range(len(events)))):
        pending[number].finish()
        finished.add(number)
        for tp in set(partitions):
            assert [event.number for event in acked if event.tp == tp] == finished_prefix(events, finished, tp)
        assert len(acks) == len(events) - len(acked)
    assert len(acks) == 0


@given(arrivals, st.data())
def test_after_a_rebalance_nothing_that_was_pending_is_acknowledged(partitions: list[int], data: st.DataObject) -> None:
    acks = InOrderAcks()
    _, acked, pending = arrive(acks, partitions)
    order = data.draw(st.permutations(range(len(pending))))
    cut = data.draw(st.integers(0, len(pending)))
    for number in order[:cut]:
        pending[number].finish()
    before = list(acked)
    acks.forget()
    assert len(acks) == 0
    for number in order[cut:]:
        pending[number].finish()
    assert acked == before


def test_what_arrives_after_a_rebalance_is_acknowledged_and_does_not_wait_for_the_past() -> None:
    acks = InOrderAcks()
    _, old, before = arrive(acks, [0, 0])
    acks.forget()
    _, new, after = arrive(acks, [0])
    after[0].finish()
    assert [event.number for event in new] == [0]
    before[0].finish()
    assert old == []


def test_an_event_that_never_ends_holds_back_its_own_partition_only() -> None:
    acks = InOrderAcks()
    _, acked, pending = arrive(acks, [0, 0, 1, 1])
    for number in (1, 2, 3):
        pending[number].finish()
    assert [event.number for event in acked] == [2, 3]


def test_finishing_twice_acknowledges_once() -> None:
    acks = InOrderAcks()
    _, acked, pending = arrive(acks, [0, 0])
    pending[0].finish()
    pending[0].finish()
    assert [event.number for event in acked] == [0]
