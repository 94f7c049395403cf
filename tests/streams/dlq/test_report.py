"""A letter for people cannot control a terminal; a letter in JSON keeps every byte."""

import json
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.dead_letter import Letter, Origin
from streams.dlq.report import counts, json_line, record

BYTES = st.none() | st.binary() | st.text().map(str.encode)


def letter(**fields: Any) -> Letter:
    ordinary: dict[str, Any] = {
        "partition": 0, "offset": 5, "at": datetime(2026, 5, 1, 12, tzinfo=UTC), "reason": "http_status", "field": "image_url",
        "error": "the answer was 503", "worker": "embed", "origin": Origin("user-interactions", 3, 7),
        "truncated": None, "key": b"ada", "value": b'{"user_id": "ada", "event_id": "e1"}', "headers": (("trace", b"7"),),
    }  # fmt: skip
    return Letter(**ordinary | fields)


def content(text: str | None, encoding: str | None) -> bytes | None:
    """The bytes that the JSON encodes."""
    if text is None:
        assert encoding is None
        return None
    return b64decode(text) if encoding == "base64" else text.encode()


def test_a_record_says_when_why_and_whose_then_what_and_from_where() -> None:
    assert [line.plain for line in record(letter(), 1)] == [
        "2026-05-01 12:00:00Z  http_status  ada e1",
        "the answer was 503",
        "field image_url, from user-interactions/3/7, sent again 1 time before",
    ]


def test_a_record_leaves_out_what_is_not_known() -> None:
    strange = letter(reason="", field="", error="", origin=None, value=b"", key=None)
    assert [line.plain for line in record(strange, 0)] == ["2026-05-01 12:00:00Z  unknown"]


@given(st.text(), st.text(max_size=60))
def test_a_record_has_no_control_characters(text: str, user: str) -> None:
    origin = Origin(text, 0, 0)
    lines = record(
        letter(reason=text, field=text, error=text, origin=origin, value=json.dumps({"user_id": user}).encode()), 0
    )
    assert all(line.plain.isprintable() for line in lines)


def test_long_ids_are_shortened_for_people_and_complete_in_json() -> None:
    long = letter(value=json.dumps({"user_id": "u" * 70_000}).encode())
    assert record(long, 0)[0].plain.endswith("  " + "u" * 40 + "…")
    assert json.loads(json_line(long, 0))["user"] == "u" * 70_000


@given(BYTES, BYTES, st.lists(st.tuples(st.text(), BYTES), max_size=3))
def test_json_keeps_every_byte_on_one_line(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    line = json_line(letter(key=key, value=value, headers=tuple(headers)), 0)
    assert line.count("\n") == 1 and line.endswith("\n")
    found = json.loads(line)
    assert content(found["key"], found["key_encoding"]) == key
    assert content(found["value"], found["value_encoding"]) == value
    assert [(one["name"], content(one["value"], one["encoding"])) for one in found["headers"]] == headers


def test_json_has_the_other_fields_too() -> None:
    found = json.loads(json_line(letter(truncated=20_000_000), 1))
    assert {name: found[name] for name in ("partition", "offset", "at", "attempts", "truncated", "user", "event_id")} == {
        "partition": 0, "offset": 5, "at": "2026-05-01T12:00:00Z", "attempts": 1, "truncated": 20_000_000,
        "user": "ada", "event_id": "e1",
    }  # fmt: skip
    assert found["original"] == {"topic": "user-interactions", "partition": 3, "offset": 7}


def test_counts_list_the_most_frequent_reason_first() -> None:
    assert counts({"timeout": 1, "http_status": 1200, "": 1}) == "http_status 1,200, unknown 1, timeout 1"
