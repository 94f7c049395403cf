"""The first answer to each event counts, and is kept in a file from which a replay resumes."""

from pathlib import Path

import pytest

from offline_training.replay.answers.journal import Journal
from offline_training.replay.answers.table import Answers
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer, event_answer
from streams.messages import CategoryScore, FieldScores, Model, Recommendation, as_datetime

FIRST = EventAnswer(3, 2, False, [(7, 0.75), (1, 0.5)], 12.5)
DEAD = EventAnswer(1, reason="http_status")


def test_the_first_answer_counts() -> None:
    answers = Answers(5, top=2)
    for one in (FIRST, EventAnswer(3, 9, True, [(0, 1.0)], 1.0), DEAD, EventAnswer(1, 1, False, [(0, 1.0)])):
        answers.add(one)
    assert answers.given.tolist() == [False, True, False, True, False]
    assert answers.recommended.tolist() == [False, False, False, True, False]
    assert answers.reasons == {1: "http_status"}
    categories, scores = answers.scores(3)
    assert (categories.tolist(), scores.tolist(), answers.bag_size[3]) == ([7, 1], [0.75, 0.5], 2)


def test_more_categories_than_the_settings_allow_are_refused() -> None:
    with pytest.raises(ReplayError, match="lists 2 categories, and TASTESTREAM_TOP_K is 1 here"):
        Answers(5, top=1).add(FIRST)


def test_a_recommendation_becomes_numbers_and_an_unknown_category_is_named() -> None:
    message = Recommendation(
        user_id="ada", event_id="e", timestamp=as_datetime(0), produced_at=as_datetime(0), model=Model("hats", "2"),
        bag_size=2, cold_start=False, categories=[CategoryScore("tie", 0.75), CategoryScore("hat", 0.5)], attention=[],
    )  # fmt: skip
    assert event_answer(3, message, {"hat": 1, "tie": 7}, 12.5) == FIRST
    with pytest.raises(ReplayError, match="of hats 2 name the category 'tie', which the bundle here does not have"):
        event_answer(3, message, {"hat": 1})


def test_the_values_of_fields_are_kept_from_the_message_to_the_table(tmp_path: Path) -> None:
    message = Recommendation(
        user_id="ada", event_id="e", timestamp=as_datetime(0), produced_at=as_datetime(0), model=Model("hats", "2"),
        bag_size=2, cold_start=False, categories=[CategoryScore("tie", 0.75)], attention=[],
        fields=[
            FieldScores("kind", [CategoryScore("tie", 0.75), CategoryScore("hat", 0.125)]),
            FieldScores("colour", [CategoryScore("red", 0.5)]),
        ],
    )  # fmt: skip
    numbers = {"hat": 1, "red": 4, "tie": 7}
    with Journal(tmp_path / "answers.jsonl") as journal:
        journal.write([FIRST, event_answer(4, message, numbers)])
    with Journal(tmp_path / "answers.jsonl") as journal:
        answers = Answers.of(journal.answers(), 5, top=2)
    assert answers.names_any_of(range(12))
    listed = answers.listed(4)
    assert (listed.categories.tolist(), listed.values.tolist()) == ([7], [7, 1, 4])
    assert listed.shares.tolist() == [0.75, 0.125, 0.5]
    assert answers.listed(3).values.tolist() == [], "an answer of an earlier journal, without fields"
    assert not Answers.of([FIRST], 5, top=2).names_any_of(range(12))
    with pytest.raises(ReplayError, match="name the category 'red'"):
        event_answer(4, message, {"hat": 1, "tie": 7})


def test_a_journal_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        assert list(journal.answers()) == []
        journal.write([FIRST])
    with Journal(path) as journal:
        assert list(journal.answers()) == [FIRST]
        journal.write([DEAD])
    with Journal(path) as journal:
        assert list(journal.answers()) == [FIRST, DEAD]


def test_a_line_that_a_crash_cut_off_is_dropped_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.write([FIRST, DEAD])
    path.write_bytes(path.read_bytes()[:-5])
    with Journal(path) as journal:
        assert list(journal.answers()) == [FIRST]
        journal.write([DEAD])
    with Journal(path) as journal:
        assert list(journal.answers()) == [FIRST, DEAD]


def test_a_damaged_journal_and_a_journal_in_use_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text("[1]\nnonsense\n[2]\n")
    with Journal(path) as journal:
        with pytest.raises(ReplayError, match=r"answers.jsonl, line 2: .*: remove the run's folder and play again"):
            list(journal.answers())
        with pytest.raises(ReplayError, match=r"another replay writes to .*answers.jsonl"):
            Journal(path)
    with pytest.raises(ReplayError, match="cannot be written: No such file"):
        Journal(tmp_path / "nowhere" / "answers.jsonl")
