"""A sample of events is found on the output, however it is cut into responses, and what is never found costs nothing for long."""

import json

from aiokafka import TopicPartition

from streams.kafka.partitioning import partition_of
from streams.serve.overview.latency import BEHIND, SEARCHES, WANTED, WINDOW, Sampler, grown_in_turn
from tests.streams.kafka.made import Made, batch

SENT = 1_764_331_200_000
PARTITIONS = 2


def interaction(number: int, user: str = "ada", kind: str = "return") -> Made:
    value = {"event_id": f"e-{number}", "user_id": user, "item_id": "shoe", "type": kind, "timestamp": SENT}
    return Made(value=json.dumps(value).encode(), timestamp=SENT + number)


def recommendation(number: int, after: int) -> Made:
    return Made(value=json.dumps({"event_id": f"e-{number}", "bag_size": 1}).encode(), timestamp=SENT + number + after)


def out(user: str = "ada") -> TopicPartition:
    return TopicPartition("out", partition_of(user.encode(), PARTITIONS))


BEFORE = {TopicPartition("out", number): 100 for number in range(PARTITIONS)}


def taken(*events: Made) -> Sampler:
    sampler = Sampler("out")
    sampler.take(batch(events, base=7), 7, BEFORE, PARTITIONS)
    return sampler


def test_the_latency_is_the_difference_of_the_records_times() -> None:
    sampler = taken(*(interaction(number) for number in range(10)))
    assert sampler.positions == {out(): 100}
    found = batch([recommendation(number, 100 * (number + 1)) for number in range(10)], base=100)
    sampler.look({out(): found}, {out(): 110}, SENT + 2000)
    latency = sampler.latency(SENT + 2000)
    assert (latency.p50, latency.p99, latency.samples) == (0.5, 1.0, 10)
    assert sampler.positions == {}, "nothing is looked for any more"


def test_a_search_goes_on_where_the_response_ended() -> None:
    sampler = taken(interaction(1))
    sampler.look({out(): batch([recommendation(7, 5)] * 3, base=100)}, {out(): 200}, SENT)
    assert sampler.positions == {out(): 103}
    sampler.look({}, {out(): 200}, SENT)
    assert sampler.positions == {out(): 103}
    sampler.look({out(): batch([recommendation(1, 250)], base=103)}, {out(): 200}, SENT)
    assert sampler.latency(SENT).p50 == 0.25


def test_a_clock_that_is_off_gives_no_negative_time() -> None:
    sampler = taken(interaction(1))
    sampler.look({out(): batch([recommendation(1, -5000)], base=100)}, {out(): 101}, SENT)
    assert sampler.latency(SENT).p50 == 0


def test_events_without_a_recommendation_are_not_looked_for() -> None:
    assert taken(interaction(1, kind="erase"), Made(value=b"{"), Made(value=None)).positions == {}


def test_an_event_that_is_never_answered_is_given_up() -> None:
    sampler = taken(interaction(1))
    sampler.look({}, {out(): 100}, SENT + WINDOW - 1)
    assert sampler.positions
    sampler.look({}, {out(): 100}, SENT + WINDOW + 1)
    assert not sampler.positions
    sampler = taken(interaction(1))
    sampler.look({}, {out(): 100 + BEHIND + 1}, SENT)
    assert not sampler.positions, "the output runs away"
    sampler = taken(interaction(1))
    sampler.look({}, {out(): 99}, SENT)
    assert not sampler.positions, "the output was created again"


def test_what_is_looked_for_is_bounded() -> None:
    sampler, partitions = Sampler("out"), 50
    before = {TopicPartition("out", number): 0 for number in range(partitions)}
    sampler.take(batch([interaction(number, f"user-{number}") for number in range(2000)]), 0, before, partitions)
    assert len(sampler.positions) == SEARCHES
    assert all(len(search.wanted) <= WANTED for search in sampler._searches.values())


def test_only_the_last_minute_counts() -> None:
    sampler = taken(interaction(1))
    sampler.look({out(): batch([recommendation(1, 250)], base=100)}, {out(): 101}, SENT)
    assert sampler.latency(SENT + WINDOW).samples == 1
    assert sampler.latency(SENT + WINDOW + 1).samples == 0


def test_partitions_that_grow_take_turns() -> None:
    one, two, other = TopicPartition("in", 0), TopicPartition("in", 1), TopicPartition("out", 0)
    before, now = {one: 1, two: 1, other: 1}, {one: 2, two: 2, other: 2}
    assert [grown_in_turn(before, now, "in", turn=turn) for turn in range(3)] == [one, two, one]
    assert grown_in_turn(now, now, "in", turn=0) is None
