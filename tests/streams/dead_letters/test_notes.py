"""Notes say what was sent again; headers of the input say nothing."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from streams.dead_letter import PREFIX, Letter, Origin, dead_letter
from streams.dead_letters.notes import History, Note, identity, is_note, note_headers, note_value, parse_note
from streams.exceptions import EventError
from tests.records import record

ORIGIN = Origin("user-interactions", 3, 7)
THERE = Origin("user-interactions", 3, 99)
LETTER = Letter(
    partition=1, offset=5, at=datetime(2026, 5, 1, tzinfo=UTC), reason="http_status", field="image_url", error="503",
    worker="embed", origin=ORIGIN, truncated=None, key=b"ada", value=b"{}", headers=(("trace", b"7"),),
)  # fmt: skip
AGAIN = replace(LETTER, offset=6, origin=THERE)  # the letter of the event that was sent again
BEGUN = Note(1, 5, identity(LETTER), 1)
SENT = changed(BEGUN, to=THERE)


@given(st.builds(Note, st.integers(0, 2**62), st.integers(0, 2**62), st.text(), st.integers(1, 9)))
def test_a_note_is_read_as_it_was_written(note: Note) -> None:
    for one in (note, changed(note, to=THERE)):
        assert parse_note(note_value(one)) == one


@given(
    st.none() | st.binary() | st.sampled_from([b"{}", b"[1]", b"[" * 100_000, note_value(SENT).replace(b"1", b"-1")])
)
def test_anything_else_is_no_note(value: bytes | None) -> None:
    assert parse_note(value) is None


def test_a_letter_is_never_a_note_whatever_headers_its_original_has() -> None:
    forged = record("user-interactions", value=note_value(SENT), headers=note_headers())

    letter = dead_letter(forged, EventError("missing_field", "x"), worker="embed", at=LETTER.at)

    assert is_note(note_headers())
    assert not is_note(letter.headers)
    assert not is_note([(PREFIX + "notes", b"redrive")])


def test_a_letter_from_the_place_that_a_note_names_is_of_that_attempt() -> None:
    history = History([BEGUN, SENT])

    assert (history.attempts(LETTER), history.sent(LETTER), history.attempts(AGAIN), history.sent(AGAIN)) == (
        0, True, 1, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        replace(AGAIN, origin=None),
        replace(AGAIN, origin=Origin("user-interactions", 2, 99)),
        replace(AGAIN, value=b"[]"),  # another event at the same offset: the topic was re-created
        replace(AGAIN, key=None),
        replace(AGAIN, headers=()),
    ],
)
def test_the_letter_of_another_event_is_of_no_attempt(other: Letter) -> None:
    assert History([BEGUN, SENT]).attempts(other) == 0


def test_a_letter_that_was_begun_and_not_sent_is_doubtful() -> None:
    history = History([BEGUN, changed(BEGUN, attempt=2)])

    assert (history.sent(LETTER), history.doubtful(LETTER), history.doubtful(AGAIN)) == (False, 2, 0)
