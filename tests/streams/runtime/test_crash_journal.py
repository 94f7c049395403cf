"""The crash journal finds the record that kills its worker, and never blames another."""

import tempfile
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from streams.runtime.crash_journal import DEATHS, LIMIT, NAME, CrashJournal

A, B = TopicPartition("events", 0), TopicPartition("events", 1)
SHARE = 16


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def begun(folder: Path, *, committed: int = 5, end: int = 9, clock: Clock | None = None) -> CrashJournal:
    """A run that reads partition A from its committed offset. It dies, unless the test closes it."""
    journal = CrashJournal(folder, clock or Clock())
    journal.begin(A.topic, {A: committed}, {A: end}, SHARE)
    return journal


# When a run is careful


def test_the_first_run_is_not_careful(tmp_path: Path) -> None:
    assert not begun(tmp_path).careful


def test_a_run_after_a_clean_stop_is_not_careful_and_finds_no_file(tmp_path: Path) -> None:
    begun(tmp_path).close()

    assert not (tmp_path / NAME).exists()
    assert not begun(tmp_path).careful


def test_a_run_after_a_death_without_progress_is_careful_for_the_records_that_the_dead_one_had(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = begun(tmp_path, end=1000)
    for unfinished, careful in ((5, True), (5 + SHARE - 1, True), (5 + SHARE, False)):
        journal.release(A.topic, {A: unfinished})
        assert journal.careful is careful


@pytest.mark.parametrize(("committed", "end"), [(6, 9), (4, 9), (5, 5)], ids=["moved", "re-created", "empty"])
def test_a_run_after_a_death_is_not_careful_on_a_partition_that_moved_or_has_no_record(
    tmp_path: Path, committed: int, end: int
) -> None:
    begun(tmp_path)

    assert not begun(tmp_path, committed=committed, end=end).careful


def test_a_run_without_the_partition_is_not_careful(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = CrashJournal(tmp_path)
    journal.begin(A.topic, {B: 5}, {B: 9}, SHARE)

    assert not journal.careful


def test_careful_ends_where_the_partition_ends_and_with_its_assignment(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = begun(tmp_path, end=7)
    journal.release(A.topic, {A: 7})
    assert not journal.careful

    again = begun(tmp_path, end=7)
    again.release(A.topic, {B: 0})
    assert not again.careful


def test_careful_ends_after_a_while_unless_a_record_is_under_suspicion(tmp_path: Path) -> None:
    clock = Clock()
    begun(tmp_path)
    journal = begun(tmp_path, clock=clock)
    clock.now = LIMIT
    journal.release(A.topic, {A: 5})
    assert not journal.careful

    begun(tmp_path).hold(A, 6)  # and dies
    journal = begun(tmp_path, clock=clock)
    clock.now += LIMIT
    journal.release(A.topic, {A: 6})
    assert journal.careful
    journal.release(A.topic, {A: 7})
    assert not journal.careful


# Whom it blames


def test_the_third_death_with_a_record_in_hand_quarantines_it_and_no_other(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        journal = begun(tmp_path)
        assert not journal.hold(A, 6)
    journal = begun(tmp_path)

    assert journal.careful
    assert [journal.hold(tp, offset) for tp, offset in ((A, 5), (A, 6), (B, 6), (A, 7))] == [False, True, False, False]


def test_a_death_between_two_records_or_before_the_first_blames_none(tmp_path: Path) -> None:
    for _ in range(2 * DEATHS):
        journal = begun(tmp_path)
        journal.hold(A, 5)
        journal.release(A.topic, {A: 6})
        begun(tmp_path)  # dies before it has a record
        CrashJournal(tmp_path)  # dies before it has partitions

    assert not begun(tmp_path).hold(A, 5)


def test_a_record_that_was_processed_after_all_is_innocent(tmp_path: Path) -> None:
    for _ in range(DEATHS - 1):
        begun(tmp_path).hold(A, 5)
    journal = begun(tmp_path)
    journal.hold(A, 5)
    journal.release(A.topic, {A: 6})
    begun(tmp_path).hold(A, 5)

    assert not begun(tmp_path).hold(A, 5)


def test_an_end_that_no_record_has_caused_is_no_death(tmp_path: Path) -> None:
    for _ in range(2 * DEATHS):
        journal = begun(tmp_path)
        journal.hold(A, 5)
        journal.acquit()
        journal.hold(A, 5)  # the agent of a worker that is stopping

    assert not begun(tmp_path).hold(A, 5)


def test_a_rebalance_takes_the_record_out_of_hand(tmp_path: Path) -> None:
    for _ in range(2 * DEATHS):
        journal = begun(tmp_path)
        journal.hold(A, 5)
        journal.begin(A.topic, {A: 5, B: 0}, {A: 9, B: 9}, SHARE)

    assert not begun(tmp_path).hold(A, 5)


def test_a_record_of_a_topic_that_was_recreated_is_not_under_suspicion(tmp_path: Path) -> None:
    for _ in range(DEATHS):
        begun(tmp_path).hold(A, 7)
    begun(tmp_path, committed=0, end=3).close()

    assert not begun(tmp_path).hold(A, 7)


@pytest.mark.parametrize(("topic_id", "innocent"), [("another", True), ("same", False), ("", False)])
def test_a_record_at_the_same_offset_of_another_topic_of_that_name_is_not_under_suspicion(
    tmp_path: Path, topic_id: str, innocent: bool
) -> None:
    for _ in range(DEATHS + 1):
        journal = CrashJournal(tmp_path)
        journal.begin(A.topic, {A: 5}, {A: 9}, SHARE, "same")
        journal.hold(A, 7)
    journal = CrashJournal(tmp_path)
    journal.begin(A.topic, {A: 5}, {A: 9}, SHARE, topic_id)

    assert journal.hold(A, 7) is not innocent
    assert journal.careful is not innocent


# The file


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"in_hand": ["events", 0, -1]}', b'{"deaths": [5]}', b"\xff" * 50, b"[" * 100_000]
)
def test_a_file_that_cannot_be_read_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)

    assert not begun(tmp_path).careful
    assert begun(tmp_path).careful, "the file was replaced"


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / NAME).with_suffix(".new").mkdir()
    journal = begun(tmp_path)

    assert not journal.hold(A, 5)
    journal.release(A.topic, {A: 9})
    journal.close()


# Two topics

ITEMS = TopicPartition("items", 0)


def both_begun(folder: Path) -> CrashJournal:
    journal = begun(folder)
    journal.begin(ITEMS.topic, {ITEMS: 0}, {ITEMS: 3}, SHARE)
    return journal


def test_a_worker_is_careful_until_both_topics_have_passed_what_the_dead_run_had(tmp_path: Path) -> None:
    both_begun(tmp_path)
    journal = both_begun(tmp_path)
    journal.release(A.topic, {A: 9})
    assert journal.careful
    journal.begin(A.topic, {A: 9}, {A: 9}, SHARE)
    assert journal.careful, "the events were assigned again, and the items were not"
    journal.release(ITEMS.topic, {ITEMS: 3})
    assert not journal.careful


def test_an_item_that_kills_is_quarantined_and_the_event_before_it_is_not(tmp_path: Path) -> None:
    both_begun(tmp_path)
    for _ in range(DEATHS):
        journal = both_begun(tmp_path)
        assert not journal.hold(A, 5)  # it is finished, and nobody has told the journal yet
        assert not journal.hold(ITEMS, 0)
        journal.release(A.topic, {A: 5})
    journal = both_begun(tmp_path)
    assert not journal.hold(A, 5)
    assert journal.hold(ITEMS, 0)


def test_items_of_a_topic_that_was_created_again_are_innocent_and_events_are_not(tmp_path: Path) -> None:
    for topic_id in ("one", "one", "one", "one", "another"):
        journal = begun(tmp_path)
        journal.begin(ITEMS.topic, {ITEMS: 0}, {ITEMS: 3}, SHARE, topic_id)
        quarantined = journal.hold(ITEMS, 0)
    assert not quarantined
    assert journal.careful


# All together


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    killers=st.sets(st.integers(0, 39), max_size=3),
    kills=st.lists(st.integers(0, 60), max_size=12),  # for each run, after how many records an operator kills it
    concurrent=st.integers(1, SHARE),
    commit_every=st.integers(1, 50),
)
@example(killers={27}, kills=[], concurrent=1, commit_every=36)  # never committed before the killer
def test_every_killer_is_quarantined_and_no_other_record_whoever_kills_the_worker(
    killers: set[int], kills: list[int], concurrent: int, commit_every: int
) -> None:
    """A worker that starts again and again, on one partition, until it has processed all records."""
    committed, end, quarantined = 0, 40, set[int]()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(len(kills) + (len(killers) + 1) * (2 * DEATHS + 2)):
            journal = CrashJournal(Path(folder), Clock())
            journal.begin(A.topic, {A: committed}, {A: end}, SHARE)
            left = kills.pop() if kills else 1000
            done, since = committed, 0
            while done < end and left > 0:
                careful = journal.careful
                batch = range(done, min(done + (1 if careful else concurrent), end))
                if careful and journal.hold(A, done):
                    quarantined.add(done)
                elif killers.intersection(batch):
                    break
                done, left, since = batch[-1] + 1, left - len(batch), since + len(batch)
                if since >= commit_every:
                    committed, since = done, 0
                if careful:
                    journal.release(A.topic, {A: committed})
            else:
                if left > 0:
                    committed = end
                    break
    assert committed == end, "it ends"
    assert quarantined == killers
