"""Redriving ends: an event that fails every time is sent again a few times and no more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import Letter, Origin, parse_letter, redrive_headers
from streams.dead_letters.verdict import Skip, identity, verdict

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
INPUTS = {"user-interactions", "embedded-interactions"}
ORIGIN = Origin("user-interactions", 3, 7)
LETTER = Letter(
    partition=0, offset=0, at=NOW, reason="http_status", field="image_url", error="the answer was 503", worker="embed",
    origin=ORIGIN, attempts=0, truncated=None, key=b"ada", value=b'{"user_id": "ada"}', headers=(("trace", b"7"),),
)  # fmt: skip


def judge(letter: Letter, *others: Letter, max_attempts: int = 3) -> Origin | Skip:
    """The verdict on a letter on a topic with others."""
    attempts: dict[bytes, int] = {}
    for one in (letter, *others):
        attempts[identity(one)] = max(one.attempts, attempts.get(identity(one), 0))
    return verdict(letter, inputs=INPUTS, attempts=attempts, max_attempts=max_attempts)


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (LETTER, ORIGIN),
        (replace(LETTER, attempts=2), ORIGIN),
        (replace(LETTER, attempts=3), Skip.exhausted),
        (replace(LETTER, truncated=20_000_000), Skip.truncated),
        (replace(LETTER, first_offset=5), Skip.unreadable),
        (replace(LETTER, origin=None), Skip.elsewhere),
        (replace(LETTER, origin=Origin("user-interactions-dlq", 0, 0)), Skip.elsewhere),
        (replace(LETTER, origin=Origin("embedded-interactions", 0, 0)), Origin("embedded-interactions", 0, 0)),
    ],
)
def test_an_event_is_sent_again_unless_its_letter_is_cut_or_from_elsewhere_or_it_was_sent_often_enough(
    letter: Letter, expected: Origin | Skip
) -> None:
    assert judge(letter) == expected


def test_only_the_letter_of_the_latest_attempt_is_sent() -> None:
    again = replace(
        LETTER, attempts=1, offset=1, at=NOW + timedelta(hours=1), origin=Origin("user-interactions", 3, 99)
    )

    assert judge(LETTER, again) is Skip.superseded
    assert judge(again, LETTER) == again.origin


@pytest.mark.parametrize(
    "other",
    [
        replace(LETTER, attempts=1, key=b"bob"),
        replace(LETTER, attempts=1, key=None),
        replace(LETTER, attempts=1, value=None),
        replace(LETTER, attempts=1, headers=()),
        replace(LETTER, attempts=1, origin=Origin("embedded-interactions", 3, 7)),
    ],
)
def test_the_letter_of_another_event_changes_nothing(other: Letter) -> None:
    assert judge(LETTER, other) == ORIGIN


@given(poison=st.integers(1, 4), rounds=st.integers(0, 8), max_attempts=st.integers(1, 4))
def test_events_that_fail_every_time_leave_one_letter_for_each_attempt_up_to_the_maximum(
    poison: int, rounds: int, max_attempts: int
) -> None:
    topic = [replace(LETTER, key=b"%d" % number, offset=number) for number in range(poison)]
    for _ in range(rounds):
        for letter in [one for one in topic if isinstance(judge(one, *topic, max_attempts=max_attempts), Origin)]:
            headers = [*redrive_headers(letter), *added(letter)]
            topic.append(parse_letter(letter.key, letter.value, headers, partition=0, offset=len(topic), timestamp=0))
    assert len(topic) == poison * (1 + min(rounds, max_attempts))


def added(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The headers that a worker adds, as far as redriving needs them."""
    assert letter.origin
    fields = {"topic": letter.origin.topic, "partition": "3", "offset": "7", "reason": "http_status"}
    return [("tastestream-" + name, value.encode()) for name, value in fields.items()]
