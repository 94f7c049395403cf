"""A dead letter is the original, byte for byte, and what went wrong beside it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from streams.dead_letters import MAX_BYTES, dead_letter
from streams.exceptions import MessageError

AT = datetime(2026, 1, 2, tzinfo=UTC)


def event(value: bytes | None, key: bytes | None = b"k", headers: object = ()) -> Any:
    message = SimpleNamespace(key=key, value=value, headers=headers, topic="user-interactions", partition=3, offset=7)
    return SimpleNamespace(message=message)


def test_key_value_and_headers_stay_as_they_came() -> None:
    error = MessageError("missing_field", "item_id is missing", field="item_id")

    letter = dead_letter(event(b"\xff\x00", headers=[("trace", b"\x01")]), error, worker="embed", at=AT)

    assert (letter.key, letter.value) == (b"k", b"\xff\x00")
    assert list(letter.headers) == [
        ("trace", b"\x01"),
        ("tastestream-reason", b"missing_field"),
        ("tastestream-field", b"item_id"),
        ("tastestream-error", b"item_id is missing"),
        ("tastestream-topic", b"user-interactions"),
        ("tastestream-partition", b"3"),
        ("tastestream-offset", b"7"),
        ("tastestream-worker", b"embed"),
        ("tastestream-at", b"2026-01-02T00:00:00+00:00"),
    ]


def test_an_original_without_key_or_value_stays_so() -> None:
    letter = dead_letter(event(None, key=None), MessageError("empty_message", "empty"), worker="embed", at=AT)

    assert (letter.key, letter.value) == (None, None)


def test_an_original_too_large_for_any_dead_letter_is_cut_and_says_so() -> None:
    error = MessageError("message_too_large", "large")

    fits = dead_letter(event(b"x" * (MAX_BYTES - 1)), error, worker="embed", at=AT)
    cut = dead_letter(
        event(b"x" * 20_000_000, key=b"k" * MAX_BYTES, headers=[("h", b"h" * MAX_BYTES)]), error, worker="embed", at=AT
    )

    assert fits.value is not None
    assert len(fits.value) == MAX_BYTES - 1
    assert dict(cut.headers)["tastestream-truncated"] == b"20000000"
    assert len(cut.key or b"") + len(cut.value or b"") + sum(len(value) for _, value in cut.headers) < MAX_BYTES
