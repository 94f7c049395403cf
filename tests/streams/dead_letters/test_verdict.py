"""Redriving ends: a letter is sent once, and an event that fails every time is sent again a few times and no more."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from streams.dead_letter import Letter, Origin
from streams.dead_letters.notes import History, Note, identity
from streams.dead_letters.verdict import Redrive, Skip, verdict

INPUTS = {
    "user-interactions": "user-interactions",
    "embedded-interactions": "embedded-interactions",
    "an-earlier-one": "embedded-interactions",
}
ORIGIN = Origin("user-interactions", 3, 7)
THERE = Origin("user-interactions", 3, 99)
LETTER = Letter(
    partition=0, offset=0, at=datetime(2026, 5, 1, 12, tzinfo=UTC), reason="http_status", field="image_url",
    error="the answer was 503", worker="embed", origin=ORIGIN, truncated=None, key=b"ada", value=b'{"user_id": "ada"}',
    headers=(("trace", b"7"),),
)  # fmt: skip


def judge(letter: Letter, *notes: Note, max_attempts: int = 3) -> Redrive | Skip:
    return verdict(letter, inputs=INPUTS, history=History(notes), max_attempts=max_attempts)


def sent_here(letter: Letter, attempt: int) -> Note:
    """The note of an earlier letter whose event was sent to where this letter comes from."""
    return Note(0, 1000 + attempt, identity(letter), attempt, letter.origin)


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (LETTER, Redrive("user-interactions", 1, doubtful=False)),
        (replace(LETTER, truncated=20_000_000), Skip.truncated),
        (replace(LETTER, first_offset=5), Skip.unreadable),
        (replace(LETTER, origin=None), Skip.elsewhere),
        (replace(LETTER, origin=Origin("user-interactions-dlq", 0, 0)), Skip.elsewhere),
        (
            replace(LETTER, origin=Origin("embedded-interactions", 0, 0)),
            Redrive("embedded-interactions", 1, doubtful=False),
        ),
        (replace(LETTER, origin=Origin("an-earlier-one", 0, 0)), Redrive("embedded-interactions", 1, doubtful=False)),
    ],
)
def test_an_event_is_sent_again_unless_its_letter_is_cut_or_from_elsewhere(
    letter: Letter, expected: Redrive | Skip
) -> None:
    assert judge(letter) == expected


@pytest.mark.parametrize(("attempts", "expected"), [(1, 2), (2, 3), (3, Skip.exhausted), (4, Skip.exhausted)])
def test_an_event_is_sent_again_up_to_the_maximum(attempts: int, expected: int | Skip) -> None:
    found = judge(LETTER, sent_here(LETTER, attempts))

    assert (found.attempt if isinstance(found, Redrive) else found) == expected


def test_a_letter_is_sent_once() -> None:
    begun = Note(0, 0, identity(LETTER), 1)

    assert judge(LETTER, begun, changed(begun, to=THERE)) is Skip.sent


def test_a_letter_of_a_killed_run_is_sent_once_more_counted_and_reported() -> None:
    begun = Note(0, 0, identity(LETTER), 1)

    assert judge(LETTER, begun) == Redrive("user-interactions", 2, doubtful=True)
    assert judge(LETTER, begun, begun) == Redrive("user-interactions", 3, doubtful=True)
    assert judge(LETTER, begun, begun, begun) is Skip.exhausted


@pytest.mark.parametrize(
    "headers", [(("tastestream-attempts", b"99"),), (("tastestream-note", b"redrive"),), (("tastestream-at", b""),)]
)
def test_headers_of_another_record_with_the_same_content_change_nothing(
    headers: tuple[tuple[str, bytes | None], ...],
) -> None:
    other = replace(LETTER, offset=1, origin=THERE, headers=(*LETTER.headers, *headers))

    assert judge(LETTER, Note(0, 1, identity(other), 1, Origin("user-interactions", 3, 500))) == judge(LETTER)


@given(
    poison=st.integers(1, 4),
    killed=st.lists(st.booleans(), max_size=8),  # for each run, whether it is killed before it notes what it sent
    max_attempts=st.integers(1, 4),
)
def test_no_letter_is_sent_twice_unless_a_run_was_killed_and_each_up_to_the_maximum(
    poison: int, killed: list[bool], max_attempts: int
) -> None:
    topic = [replace(LETTER, key=b"%d" % number, offset=number) for number in range(poison)]
    notes: list[Note] = []
    for kill in killed:
        for letter in list(topic):
            judged = judge(letter, *notes, max_attempts=max_attempts)
            if isinstance(judged, Skip):
                continue
            place = Origin(judged.topic, 3, 100 + len(topic))
            begun = Note(0, letter.offset, identity(letter), judged.attempt)
            notes += [begun] if kill else [begun, changed(begun, to=place)]
            topic.append(replace(letter, offset=len(topic), origin=place))
    if not any(killed):
        assert len(topic) == poison * (1 + min(len(killed), max_attempts))
    times = Counter(note.offset for note in notes if note.to is None)
    noted = Counter(note.offset for note in notes if note.to is not None)
    assert max(times.values(), default=0) <= max_attempts
    assert max(noted.values(), default=0) <= 1
    assert all(times[letter] <= sum(killed) + 1 for letter in noted)
