"""Which letters a command takes, and that replay ends: an event that fails for ever is sent a few times, not for ever."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import Letter, Origin, parse_letter, replay_headers
from streams.dead_letters.selection import LetterFilter, Skip, identity, moment, verdict

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
INPUTS = {"user-interactions", "embedded-interactions"}
ORIGIN = Origin("user-interactions", 3, 7)
LETTER = Letter(
    partition=0, offset=0, at=NOW, reason="http_status", field="image_url", error="the answer was 503", worker="embed",
    origin=ORIGIN, attempts=0, truncated=None, key=b"ada", value=b'{"user_id": "ada"}', headers=(("trace", b"7"),),
)  # fmt: skip
BEFORE = NOW - timedelta(hours=1)


# LetterFilter


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (LetterFilter(), True),
        (LetterFilter(frozenset({"timeout", "http_status"})), True),
        (LetterFilter(frozenset({"timeout"})), False),
        (LetterFilter(user="ada"), True),
        (LetterFilter(user="ad"), False),
        (LetterFilter(since=NOW), True),
        (LetterFilter(since=NOW + timedelta(microseconds=1)), False),
        (LetterFilter(until=NOW), False),
        (LetterFilter(until=NOW + timedelta(microseconds=1)), True),
        (LetterFilter(since=BEFORE, until=NOW), False),
        (LetterFilter(frozenset({"http_status"}), "bob", BEFORE), False),
    ],
)
def test_a_letter_is_taken_when_it_meets_every_filter(selection: LetterFilter, taken: bool) -> None:
    assert selection.matches(LETTER) is taken


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-04-30T10:00:00Z", datetime(2026, 4, 30, 10, tzinfo=UTC)),
        ("2026-04-30T12:00:00+02:00", datetime(2026, 4, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_moment_is_rfc_3339_or_a_duration_back_from_now(text: str, expected: datetime) -> None:
    assert moment(text, now=NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "2w", "-2h", "2 h", "yesterday", "2026-04-30", "2026-04-30T10:00:00", "999999999d", "1" * 5000]
)
def test_any_other_moment_is_named_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="neither RFC 3339 with a time zone") as caught:
        moment(text, now=NOW)
    assert repr(text) in str(caught.value)


# Verdicts


def judge(letter: Letter, *others: Letter, max_attempts: int = 3) -> Origin | Skip:
    """The verdict over a letter on a topic with others."""
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
        (replace(LETTER, origin=None), Skip.elsewhere),
        (replace(LETTER, origin=Origin("user-interactions-dlq", 0, 0)), Skip.elsewhere),
        (replace(LETTER, origin=Origin("embedded-interactions", 0, 0)), Origin("embedded-interactions", 0, 0)),
    ],
)
def test_a_letter_goes_back_unless_it_is_cut_or_from_elsewhere_or_was_sent_often_enough(
    letter: Letter, expected: Origin | Skip
) -> None:
    assert judge(letter) == expected


def test_the_newest_attempt_stands_for_its_event() -> None:
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
def test_another_event_does_not_stand_for_it(other: Letter) -> None:
    assert judge(LETTER, other) == ORIGIN


@given(poison=st.integers(1, 4), rounds=st.integers(0, 8), max_attempts=st.integers(1, 4))
def test_events_that_fail_for_ever_leave_one_letter_for_each_time_up_to_the_maximum(
    poison: int, rounds: int, max_attempts: int
) -> None:
    topic = [replace(LETTER, key=b"%d" % number, offset=number) for number in range(poison)]
    for _ in range(rounds):
        for letter in [one for one in topic if isinstance(judge(one, *topic, max_attempts=max_attempts), Origin)]:
            headers = [*replay_headers(letter), *ours(letter)]
            topic.append(parse_letter(letter.key, letter.value, headers, partition=0, offset=len(topic), timestamp=0))
    assert len(topic) == poison * (1 + min(rounds, max_attempts))


def ours(letter: Letter) -> list[tuple[str, bytes | None]]:
    """The headers that a worker adds, as far as replay needs them."""
    assert letter.origin
    fields = {"topic": letter.origin.topic, "partition": "3", "offset": "7", "reason": "http_status"}
    return [("tastestream-" + name, value.encode()) for name, value in fields.items()]
