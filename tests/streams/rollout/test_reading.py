"""What changelog records and features come to."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from streams.features.records import Features, encode_features, features_key
from streams.profile.bag import Moment
from streams.profile.rows import UnknownRowFormat, encode_floor, encode_slot, header_of, slot_key, user_prefix
from streams.rollout.held import Held, decode_held, encode_held
from streams.rollout.ledger import open_ledger
from streams.rollout.reading import changes_of, surveyed, wanted_features
from streams.settings import Settings
from tests.streams.rollout.made import NEXT, SERVED, code, seen, slot_of

PARTITIONS = [TopicPartition("bags", number) for number in range(3)]
KEY = slot_key("ann", "shoe")


def changed(*rows: tuple[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    return changes_of(rows, 2, served=SERVED, following=NEXT)


def test_the_newest_record_of_a_row_counts() -> None:
    lacking, complete = slot_of(seen(served=code())), slot_of(seen(served=code(), following=code(1)))
    for last, state in ((lacking, "missing"), (complete, "native")):
        value = changed((KEY, encode_slot(complete)), (KEY, encode_slot(lacking)), (KEY, encode_slot(last)))[KEY]
        assert value is not None
        found = decode_held(value)
        assert (found.state, found.partition) == (state, 2)
    assert changed((KEY, encode_slot(lacking)), (KEY, None)) == {KEY: None}


def test_a_row_without_a_picture_replaces_one_with_a_picture() -> None:
    with_picture, without = slot_of(seen(served=code())), slot_of(seen(kind="return"))
    assert changed((KEY, encode_slot(with_picture)), (KEY, encode_slot(without))) == {KEY: None}


def test_floors_are_kept_as_they_are() -> None:
    header, floor = header_of(user_prefix("ann")), encode_floor(Moment(5, "", "", ""))
    assert changed((header, floor)) == {header: floor}


def test_a_row_of_a_later_version_stops_the_command() -> None:
    with pytest.raises(UnknownRowFormat, match="row format"):
        changed((KEY, b"\x03" + encode_slot(slot_of(seen(served=code())))[1:]))


def record(key: bytes | None, value: bytes | None) -> object:
    return SimpleNamespace(key=key, value=value)


def features(row: bytes) -> bytes:
    return encode_features(Features(1, row))


def test_features_of_the_right_backbone_and_of_wanted_pictures_are_taken() -> None:
    records = [
        record(features_key("v1", "http://x/1"), features(b"one")),
        record(features_key("v1", "http://x/1"), features(b"newer")),
        record(features_key("v2", "http://x/2"), features(b"other backbone")),
        record(features_key("v1", "http://x/3"), features(b"not wanted")),
        record(features_key("v1", "http://x/4"), None),
        record(features_key("v1", "http://x/5"), b"\xc1 rubbish"),
        record(b"no key", features(b"x")),
        record(None, b"x"),
    ]
    found = wanted_features(records, "v1", lambda url: url != "http://x/3")
    assert found == {"http://x/1": b"newer", "http://x/4": None, "http://x/5": b""}


def test_the_survey_counts_all_rows_and_wants_the_pictures_of_those_that_lack_a_native_code(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)  # pyright: ignore[reportCallIssue]
    states = ["native", "missing", "stale", "adapted", "missing"]
    with open_ledger(settings, "prepare") as ledger:
        for number, state in enumerate(states):
            kept = Held(state, number % 2, Moment(number, "e", "i", "view"), f"http://x/{number}")  # pyright: ignore[reportArgumentType]
            ledger.write({slot_key(f"user {number}", "i"): encode_held(kept)})
        survey = surveyed(ledger, PARTITIONS, limit=2)
        assert survey.chosen == 2
        assert [ledger.wanted(f"http://x/{number}") for number in range(5)] == [False, True, True, False, False]
        survey = surveyed(ledger, PARTITIONS, limit=None)
        assert [ledger.wanted(f"http://x/{number}") for number in range(5)] == [False, True, True, True, True]
    assert survey.chosen == 4
    assert {number: dict(share.states) for number, share in survey.shares.items()} == {
        0: {"native": 1, "stale": 1, "missing": 1},
        1: {"missing": 1, "adapted": 1},
        2: {},
    }
