"""A filter takes the letters that meet every condition; times are written as RFC 3339 or as a duration back from now."""

from datetime import UTC, datetime, timedelta

import pytest

from streams.dead_letter import Letter, Origin
from streams.dead_letters.letter_filter import LetterFilter, parse_time

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LETTER = Letter(
    partition=0, offset=0, at=NOW, reason="http_status", field="image_url", error="the answer was 503", worker="embed",
    origin=Origin("user-interactions", 3, 7),
    truncated=None, key=b"ada", value=b'{"user_id": "ada"}', headers=(("trace", b"7"),),
)  # fmt: skip
BEFORE = NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("letter_filter", "taken"),
    [
        (LetterFilter(), True),
        (LetterFilter(frozenset({"timeout", "http_status"})), True),
        (LetterFilter(frozenset({"timeout"})), False),
        (LetterFilter(user="ada"), True),
        (LetterFilter(user="ad"), False),
        (LetterFilter(topic="user-interactions"), True),
        (LetterFilter(topic="user"), False),
        (LetterFilter(since=NOW), True),
        (LetterFilter(since=NOW + timedelta(microseconds=1)), False),
        (LetterFilter(until=NOW), False),
        (LetterFilter(until=NOW + timedelta(microseconds=1)), True),
        (LetterFilter(since=BEFORE, until=NOW), False),
        (LetterFilter(frozenset({"http_status"}), "bob", BEFORE), False),
    ],
)
def test_a_letter_is_taken_if_it_meets_every_condition(letter_filter: LetterFilter, taken: bool) -> None:
    assert letter_filter.matches(LETTER) is taken


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
def test_a_time_is_rfc_3339_or_a_duration_back_from_now(text: str, expected: datetime) -> None:
    assert parse_time(text, now=NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "2w", "-2h", "2 h", "yesterday", "2026-04-30", "2026-04-30T10:00:00", "999999999d", "1" * 5000]
)
def test_any_other_time_is_refused_by_naming_it_and_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="neither RFC 3339 with a time zone") as caught:
        parse_time(text, now=NOW)
    assert repr(text) in str(caught.value)
