"""A dead letter is the original, byte for byte, with headers that say what went wrong."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import (
    MAX_BYTES,
    PREFIX,
    DeadLetter,
    Letter,
    Origin,
    Subject,
    dead_letter,
    parse_letter,
    subject,
)
from streams.exceptions import EventError, MessageError
from streams.kafka.records import Record, value_of
from streams.messages import derived_event_id
from tests.records import record, unreadable

AT = datetime(2026, 1, 2, tzinfo=UTC)


def event(value: bytes | None, key: bytes | None = b"k", headers: Sequence[tuple[str, Any]] = ()) -> Record:
    return record("user-interactions", 3, 7, key=key, value=value, headers=headers)


def test_the_letter_of_a_batch_that_cannot_be_read_names_its_offsets_and_holds_its_bytes() -> None:
    damaged = unreadable("user-interactions", 3, 7, 11, b"\xff\x00")
    with pytest.raises(MessageError, match="checksum") as caught:
        value_of(damaged)

    letter = dead_letter(damaged, caught.value, worker="embed", at=AT)
    parsed = parse_letter(*letter, partition=0, offset=0, timestamp=0)

    assert (letter.key, letter.value) == (None, b"\xff\x00")
    assert (parsed.reason, parsed.origin, parsed.first_offset) == (
        "unreadable_batch", Origin("user-interactions", 3, 11), 7,
    )  # fmt: skip
    assert parse_letter(b"k", b"v", (), partition=0, offset=0, timestamp=0).first_offset is None


def test_key_value_and_headers_are_unchanged() -> None:
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


def test_an_original_without_key_or_value_keeps_neither() -> None:
    letter = dead_letter(event(None, key=None), MessageError("empty_message", "empty"), worker="embed", at=AT)

    assert (letter.key, letter.value) == (None, None)


def test_an_original_that_is_too_large_for_a_dead_letter_is_cut_and_a_header_says_so() -> None:
    error = MessageError("message_too_large", "large")

    fits = dead_letter(event(b"x" * (MAX_BYTES - 1)), error, worker="embed", at=AT)
    cut = dead_letter(
        event(b"x" * 20_000_000, key=b"k" * MAX_BYTES, headers=[("h", b"h" * MAX_BYTES)]), error, worker="embed", at=AT
    )

    assert fits.value is not None
    assert len(fits.value) == MAX_BYTES - 1
    assert dict(cut.headers)["tastestream-truncated"] == b"20000000"
    assert len(cut.key or b"") + len(cut.value or b"") + sum(len(value) for _, value in cut.headers) < MAX_BYTES


# Sending the event again


OURS = st.sampled_from(["attempts", "note", "topic", "truncated", "reason", "at"]).map(lambda name: PREFIX + name)
FOREIGN = st.text("abc-", max_size=5)
ANYTHING = st.recursive(st.text() | st.integers(-(2**63), 2**64 - 1), st.lists)
HEADERS = st.lists(st.tuples(OURS | FOREIGN, st.binary(max_size=8) | st.none()), max_size=6)


def letter_of(record: DeadLetter, *, partition: int = 0, offset: int = 0, timestamp: int = 0) -> Letter:
    """The letter as a reader parses it."""
    return parse_letter(
        record.key, record.value, record.headers, partition=partition, offset=offset, timestamp=timestamp
    )


@given(key=st.none() | st.binary(), value=st.none() | st.binary(), headers=HEADERS)
def test_a_letter_has_the_original_and_none_of_its_headers_under_our_prefix(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    error = MessageError("invalid_json", "the value is not JSON")

    made = dead_letter(event(value, key=key, headers=headers), error, worker="embed", at=AT)
    letter = letter_of(made)

    assert (letter.key, letter.value, letter.origin) == (key, value, Origin("user-interactions", 3, 7))
    assert (letter.reason, letter.at, letter.truncated) == ("invalid_json", AT, None)
    assert list(letter.headers) == [header for header in headers if not header[0].startswith(PREFIX)]
    plain = dead_letter(event(value, key=key), error, worker="embed", at=AT)
    assert [one for one in made.headers if one[0].startswith(PREFIX)] == plain.headers


@pytest.mark.parametrize("value", [b"x", b"x" * 20_000_000], ids=["whole", "cut"])
def test_a_letter_of_a_record_with_forged_headers_is_that_of_one_without(value: bytes) -> None:
    forged = [(PREFIX + name, b"99") for name in ("attempts", "note", "truncated", "topic", "offset", "reason", "at")]
    error = EventError("timeout", "slow")

    letter = dead_letter(event(value, headers=forged), error, worker="embed", at=AT)

    assert letter == dead_letter(event(value), error, worker="embed", at=AT)


@given(
    key=st.none() | st.binary(),
    value=st.none()
    | st.binary()
    | st.dictionaries(st.sampled_from(["user_id", "event_id"]), ANYTHING).map(msgspec.msgpack.encode),
    headers=HEADERS,
    timestamp=st.integers(-(2**63), 2**63 - 1),
)
def test_any_record_on_the_topic_can_be_parsed(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int
) -> None:
    for worker in (b"embed", b"profile", b"\xff"):
        given_headers = [*headers, (PREFIX + "worker", worker)]
        letter = parse_letter(key, value, given_headers, partition=1, offset=2, timestamp=timestamp)
        subject(letter)
        assert letter.at.tzinfo is UTC


def test_a_record_that_is_not_a_dead_letter_has_empty_fields_and_its_own_time() -> None:
    letter = parse_letter(b"k", b"v", [("trace", b"7")], partition=1, offset=2, timestamp=1_400_000_000_000)

    assert (letter.reason, letter.error, letter.origin, letter.truncated) == ("", "", None, None)
    assert letter.at == datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC)


INTERACTION = {
    "event_id": "e1",
    "user_id": "ada",
    "item_id": "shoe",
    "type": "view",
    "timestamp": 1,
    "image_url": "http://a.example/1.jpg",
}
WITHOUT_ID = {name: value for name, value in INTERACTION.items() if name != "event_id"}
DERIVED = derived_event_id("ada", "shoe", "view", 1, "http://a.example/1.jpg")


@pytest.mark.parametrize(
    ("worker", "value", "expected"),
    [
        ("embed", json.dumps(INTERACTION).encode(), Subject("ada", "e1")),
        ("embed", b'{"user_id": "ada", "event_id": "e1"}', Subject("ada", "e1")),
        ("embed", json.dumps(WITHOUT_ID).encode(), Subject("ada", DERIVED)),
        ("embed", b'{"user_id": "ada"}', Subject("ada", "")),
        ("embed", b'{"user_id": 7, "event_id": 8}', Subject("7", "8")),
        ("embed", b'{"user_id": true, "event_id": "e1"}', Subject("key", "e1")),
        ("embed", b'{"user_id": "ada", "event_id": "e1"', Subject("key", "")),
        ("embed", b"[1, 2]", Subject("key", "")),
        ("embed", b'{"user_id": ' + b"[" * 50_000, Subject("key", "")),
        ("embed", None, Subject("key", "")),
        ("profile", msgspec.msgpack.encode({"user_id": "ada", "event_id": "e1"}), Subject("ada", "e1")),
        ("profile", msgspec.msgpack.encode({"event_id": "e1"}), Subject("key", "e1")),
        ("profile", b"\x81\xa7user_id" + b"\x91" * 50_000, Subject("key", "")),
        ("profile", b"\x85\xa8event_id", Subject("key", "")),
    ],
)
def test_the_user_is_the_one_in_the_body_or_else_the_key(worker: str, value: bytes | None, expected: Subject) -> None:
    record = dead_letter(event(value, key=b"key"), MessageError("invalid_field", "bad"), worker=worker, at=AT)
    assert subject(letter_of(record)) == expected
