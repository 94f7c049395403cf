"""Which records of the features topic a worker keeps."""

import numpy as np
import pytest

from model.quantization import quantize
from streams.features.records import Features, encode_features, features_key
from streams.features.taking import MAX_AHEAD, MAX_OWN, Own, Rules, Taken, take
from streams.kafka.records import Record
from tests.records import record, unreadable

NOW = 1_700_000_000.0
MADE_AT = int(NOW * 1000)
URL = "https://shop.example/hat.jpg"
KEY = features_key("v1", URL)
ROW = quantize(np.linspace(0, 1, 16, dtype=np.float32))
VALUE = encode_features(Features(MADE_AT, ROW))


def taken(*records: Record, own: Own | None = None, starts: dict[str, dict[int, int]] | None = None) -> Taken:
    return take(records, Rules({"v1": len(ROW)}, 60.0, own or Own()), starts or {}, NOW)


def made(row: bytes = ROW, at: int = MADE_AT) -> bytes:
    return encode_features(Features(at, row))


def test_features_of_a_bundle_are_kept_as_they_are_on_the_topic() -> None:
    found = taken(record(key=KEY, value=VALUE))
    assert (found.changes, found.forgotten, found.counts, found.problem) == ({KEY: VALUE}, [], {"kept": 1}, "")


def test_a_tombstone_forgets_and_the_last_record_of_a_key_counts() -> None:
    other = features_key("v1", "https://shop.example/coat.jpg")
    found = taken(
        record(key=KEY, value=VALUE), record(key=KEY, value=None),
        record(key=other, value=None), record(key=other, value=VALUE),
    )  # fmt: skip
    assert found.changes == {KEY: None, other: VALUE}
    assert found.forgotten == [URL, "https://shop.example/coat.jpg"]


def test_features_of_another_network_and_those_that_are_too_old_are_skipped() -> None:
    found = taken(
        record(key=features_key("v11", URL), value=VALUE),
        record(key=features_key("v2", URL), value=None),
        record(key=KEY, value=made(at=MADE_AT - 60_001)),
    )
    assert (found.changes, found.counts) == ({}, {"skipped": 3})


NOT_FINITE = np.array([np.nan, np.nan], "<f4").tobytes() + bytes(16)
TOO_LARGE = np.array([0, 1e9], "<f4").tobytes() + bytes(16)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (KEY, made(ROW[:-1]), "expected features of 24 bytes, found 23"),
        (KEY, made(ROW + b"\0"), "expected features of 24 bytes, found 25"),
        (KEY, made(b""), "expected features of 24 bytes, found 0"),
        (KEY, made(NOT_FINITE), "not finite, or too large"),
        (KEY, made(TOO_LARGE), "not finite, or too large"),
        (KEY, made(at=MADE_AT + MAX_AHEAD + 1), "made in the future"),
        (KEY, b"", "not features"),
        (KEY, b"\x92\x01", "not features"),
        (KEY, b"\x91" * 100_000, "not features"),
        (KEY, VALUE + b"\0", "not features"),
        (None, VALUE, "names no picture"),
        (b"", VALUE, "names no picture"),
        (b"v1", VALUE, "names no picture"),
        (b"v1\0", VALUE, "names no picture"),
        (b"\0" + URL.encode(), VALUE, "names no picture"),
        (b"v1\0\xff\xfe", VALUE, "names no picture"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_and_the_others_are_kept(
    key: bytes | None, value: bytes, problem: str
) -> None:
    good = features_key("v1", "https://shop.example/coat.jpg")
    found = taken(record("t", 3, 7, key=key, value=value), record("t", 3, 8, key=good, value=VALUE))
    assert found.changes == {good: VALUE}
    assert found.counts == {"refused": 1, "kept": 1}
    assert found.problem.startswith("t/3 at offset 7: ")
    assert problem in found.problem


def test_what_cannot_be_read_is_refused() -> None:
    found = taken(unreadable("t", 0, 3, 5), record("t", 0, 6, key=KEY, value=VALUE))
    assert (found.changes, found.counts["refused"]) == ({KEY: VALUE}, 1)
    assert "checksum" in found.problem


def test_records_before_the_start_of_their_version_are_skipped() -> None:
    records = [record("t", 1, offset, key=features_key("v1", str(offset)), value=VALUE) for offset in range(4)]
    found = taken(*records, starts={"v1": {0: 100, 1: 2}})
    assert list(found.changes) == [features_key("v1", "2"), features_key("v1", "3")]


def test_what_this_process_published_is_not_written_again() -> None:
    own = Own()
    own.add(KEY, MADE_AT)
    assert taken(record(key=KEY, value=VALUE), own=own).changes == {}
    assert taken(record(key=KEY, value=VALUE), own=own).changes == {KEY: VALUE}, "once"
    own.add(KEY, MADE_AT)
    newer = made(at=MADE_AT + 1)
    assert taken(record(key=KEY, value=newer), own=own).changes == {KEY: newer}, "another worker made them again"


def test_what_this_process_published_is_kept_behind_a_tombstone() -> None:
    own = Own()
    own.add(KEY, MADE_AT)
    assert taken(record(key=KEY, value=None), record(key=KEY, value=VALUE), own=own).changes == {KEY: VALUE}


def test_what_is_remembered_as_published_is_bounded() -> None:
    own = Own()
    for number in range(MAX_OWN + 1):
        own.add(b"%d" % number, number)
    assert not own.take(b"0", 0)
    assert own.take(b"1", 1)
