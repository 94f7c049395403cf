"""One sentence says what is wrong, since when and which page helps, and marks say what happened. Each trouble is made to happen."""

import re
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from streams.kafka.fleet import BundleName, MemberBundles
from streams.kafka.remarks import Circuit, Remark
from streams.serve.overview import verdict
from streams.serve.overview.board import Board
from streams.serve.overview.types import Latency, Now, WorkerBundles
from streams.serve.state import State
from tests.docs.test_claims import ROOT, anchors
from tests.streams.kafka.made import batch
from tests.streams.serve.made import NAMES, NOW
from tests.streams.serve.overview.made import Story
from tests.streams.serve.overview.test_letters import letter


def seen(story: Story, board: Board, seconds: float = 1.0) -> Now:
    board.look(story.look(seconds), 0, [])
    return board.now


def kinds(now: Now) -> list[str]:
    return [mark.kind for mark in now.marks]


def test_before_the_first_look_nothing_is_well_and_nothing_is_wrong() -> None:
    now = Board(NAMES).now
    assert (now.at, now.verdict.well, now.verdict.reason, now.second) == (None, False, "", None)


def test_all_is_well() -> None:
    story, board = Story(), Board(NAMES)
    assert seen(story, board).verdict.text == "All is well. No events come in."
    story.grow("in", 20)
    story.grow("out", 10)
    now = seen(story, board, 2.0)
    assert now.second is not None
    assert (now.second.events_in, now.second.events_out, now.second.lag_events) == (10, 5, 0)
    assert now.verdict.text == "All is well. 10.0 events a second come in."
    assert now.verdict.well
    assert now.marks == []


@pytest.mark.parametrize(("seconds", "written"), [(0.0149, "15 ms"), (2.46, "2.5 s")])
def test_how_long_half_of_the_events_take_is_said_as_the_charts_say_it(
    monkeypatch: pytest.MonkeyPatch, seconds: float, written: str
) -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)

    def latency(_: int) -> Latency:
        return Latency(p50=seconds, p99=seconds, samples=1)

    monkeypatch.setattr(board.sampler, "latency", latency)
    story.grow("in", 10)
    text = seen(story, board).verdict.text
    assert text == f"All is well. 10.0 events a second come in, half of them are answered within {written}."


def test_the_broker_is_away_and_comes_back() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    for _ in range(3):
        story.at += 1000
        board.away(story.at, "no broker at shop:9092", [])
    now = board.now
    assert (now.verdict.reason, now.verdict.well) == ("broker_away", False)
    assert now.verdict.since is not None
    assert (story.at - now.verdict.since.timestamp() * 1000) == 2000
    assert now.groups[0].events is None
    assert now.second is not None
    assert now.second.events_in is None
    now = seen(story, board)
    assert now.verdict.well
    assert kinds(now) == ["broker_away", "broker_back"]
    assert now.marks[-1].text == "the broker answers again after 3 s"
    assert now.second is not None
    assert now.second.events_in is None, "nobody knows when the events came"


def test_no_worker_runs() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.members["profile"], story.states["profile"] = [], "Empty"
    story.wait("embedded", 3, 1.0)
    now = seen(story, board)
    assert now.verdict.text == "No profile worker runs, and 3 events wait."
    assert now.verdict.runbook.endswith("#nobody-reads-a-partition")
    assert "profile worker bob at 10.0.0.3 has left" in [mark.text for mark in now.marks]


def test_nobody_reads_a_partition() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.unowned.add(TopicPartition("in", 1))
    assert seen(story, board).verdict.well, "there is nothing in it"
    story.wait("in", 23, 500.0, partition=1)
    now = seen(story, board)
    assert now.verdict.text == "No embed worker reads the partitions 1 of in, and 23 events wait."
    assert now.second is not None
    assert (now.second.lag_events, now.second.lag_seconds) == (23, 500.0)


def test_a_topic_is_missing_and_created_again() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    del story.ids["out"]
    assert seen(story, board).verdict.text == "Topic out does not exist."
    story.ids["out"] = "two"
    now = seen(story, board)
    assert now.verdict.well
    assert kinds(now) == ["topic_changed"]


def test_the_workers_are_late() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.wait("in", 1000, verdict.LATE + 1)
    now = seen(story, board)
    assert now.verdict.text == "The embed workers are late: the oldest of 1,000 events has waited for 31 s."
    assert now.verdict.runbook == "docs/operate/runbook.md#lag-grows"


def test_the_workers_finish_nothing() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.wait("in", 1, 5.0)
    story.grow("in", 1)  # one came, and none was finished
    seen(story, board)
    assert seen(story, board, verdict.STALLED - 1).verdict.well
    now = seen(story, board, 2.0)
    assert now.verdict.reason == "stalled_in"
    story.grow("in", 1)  # one came, and one was finished
    assert seen(story, board).verdict.well


def test_a_rebalance_that_lasts_is_wrong_and_one_that_ends_is_a_mark() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.states["profile"] = "PreparingRebalance"
    story.members["profile"] = ["bob", "eve"]
    assert seen(story, board).verdict.well
    now = seen(story, board, verdict.UNSETTLED + 1)
    assert now.verdict.reason == "unsettled_embedded"
    story.states["profile"] = "Stable"
    story.members["profile"] = ["eve"]
    now = seen(story, board)
    assert kinds(now) == ["joined", "rebalance", "left", "settled"]
    story.grow("embedded", 1)
    now = seen(story, board)
    assert kinds(now)[-1] == "resumed"
    assert now.marks[-1].text == "the profile workers finish events again, 33 s after partitions moved"
    story.grow("embedded", 1)
    assert kinds(seen(story, board)) == kinds(now)


def test_a_rebalance_between_two_looks_is_seen_by_what_it_moved() -> None:
    story, board = Story(), Board(NAMES)
    seen(story, board)
    story.members["embed"] = ["eve"]
    assert kinds(seen(story, board)) == ["left", "joined", "rebalance"]


def test_dead_letters_pile_up() -> None:
    story, board = Story(), Board(NAMES)
    board.letters.begin({TopicPartition("dead", 0): 0})
    seen(story, board)
    story.grow("in", 500)
    seen(story, board)
    board.letters.take({TopicPartition("dead", 0): batch([letter("timeout", story.at)] * 9)}, 0)
    assert seen(story, board).verdict.well, "below ten"
    board.letters.take({TopicPartition("dead", 0): batch([letter("timeout", story.at)] * 4, base=9)}, 0)
    now = seen(story, board)
    assert (
        now.verdict.text
        == "13 events became dead letters in the last five minutes, most of them with the reason timeout."
    )
    assert now.dead_letters[0].count == 13
    story.grow("in", 5000)
    assert seen(story, board).verdict.well, "below one percent"
    board.letters.take({TopicPartition("dead", 0): batch([letter("internal_error", story.at)], base=13)}, 0)
    assert seen(story, board).verdict.reason == "internal_error"


def says(number: int, *hosts: str, waiting: int = 0, refused: int = 1) -> Remark:
    return Remark(tuple(Circuit(host, NOW - 60_000, waiting, refused) for host in hosts), worker="one", number=number)


def test_hosts_that_are_not_asked_are_named_and_are_wrong_once_they_cost_many_events() -> None:
    story, board = Story(), Board(NAMES)
    board.letters.begin({TopicPartition("dead", 0): 0})
    story.remarks = {TopicPartition("in", 0): says(1, "cdn.example:443", "two.example:443")}
    now = seen(story, board)
    assert now.verdict.well
    assert (
        now.verdict.text
        == "All is well. No events come in. Pictures of cdn.example:443 and 1 other host are not fetched."
    )
    assert [(one.host, one.refused) for one in now.open_circuits] == [("cdn.example:443", 1), ("two.example:443", 1)]
    board.letters.take({TopicPartition("dead", 0): batch([letter("host_unavailable", story.at)] * 8)}, 0)
    board.letters.take({TopicPartition("dead", 0): batch([letter("invalid_json", story.at)] * 1, base=8)}, 0)
    story.remarks = {TopicPartition("in", 0): says(2, "cdn.example:443", waiting=1)}
    assert seen(story, board).verdict.well, "below ten"
    story.remarks = {TopicPartition("in", 0): says(3, "cdn.example:443", waiting=2)}
    now = seen(story, board)
    assert (
        now.verdict.text
        == "Pictures of cdn.example:443 are not fetched: 8 events were refused in the last five minutes, and 2 wait."
    )
    assert now.verdict.runbook == "docs/operate/runbook.md#pictures-of-a-host-are-not-fetched"
    assert now.verdict.since is not None
    assert now.verdict.since.timestamp() * 1000 == NOW - 60_000, (
        "since the breaker opened, and not since somebody saw it"
    )
    assert board.overview(60, 10).open_circuits == now.open_circuits
    story.remarks = {}
    now = seen(story, board)
    assert (now.verdict.well, now.open_circuits) == (True, [])


def test_while_the_broker_is_away_nobody_knows_which_hosts_are_asked() -> None:
    story, board = Story(), Board(NAMES)
    story.remarks = {TopicPartition("in", 0): says(1, "cdn.example:443")}
    assert seen(story, board).open_circuits
    board.away(story.at + 1000, "no broker", [])
    assert board.now.open_circuits == []


def test_the_bundles_of_a_worker_are_those_that_it_says_last() -> None:
    story, board = Story(), Board(NAMES)
    assert {one.bundles for one in _workers(story, board)} == {None}
    bundles = MemberBundles(BundleName("shop", "4.0.0", "abc"))
    story.remarks = {TopicPartition("embedded", 1): Remark(bundles=bundles, worker="one", number=1)}
    assert {one.group: one.bundles for one in _workers(story, board)} == {"embed": None, "profile": bundles}


def _workers(story: Story, board: Board) -> list[WorkerBundles]:
    seen(story, board)
    return board.workers


def test_the_replica_is_old() -> None:
    story, board = Story(), Board(NAMES)
    board.look(story.look(), 0, [State(3, 7, None, 31.0, "stale"), State(4, 7, 0, 0.0, "live")])
    assert board.now.verdict.text == "This serve worker reads old bags in the partitions 3."


def test_the_cause_is_named_first() -> None:
    story, board = Story(), Board(NAMES)
    story.members["embed"], story.states["embed"] = [], "Dead"
    story.wait("in", 5, 400.0)
    story.wait("embedded", 5, 400.0)
    assert seen(story, board).verdict.reason == "no_worker_in"


@pytest.mark.parametrize("page", sorted(set(re.findall(r"{(\w+)}#([\w-]+)", Path(verdict.__file__).read_text()))))
def test_each_page_that_helps_exists(page: tuple[str, str]) -> None:
    path = ROOT / getattr(verdict, page[0])
    assert page[1] in anchors(path)


def test_marks_are_bounded() -> None:
    story, board = Story(), Board(NAMES)
    for number in range(300):
        story.members["embed"] = [f"worker-{number}"]
        seen(story, board, 0.001)
    assert len(board.now.marks) == 100
    assert len(seen(story, board, 3601.0).marks) == 0
