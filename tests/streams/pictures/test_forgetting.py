"""What `tastestream pictures forget` chooses on the topic, and what it says about wrong arguments."""

import pytest

from streams.features.records import Features, encode_features, features_key
from streams.pictures.forgetting import Choice, Found, missing
from tests.command import Command
from tests.records import record, unreadable

HAT, COAT = "https://shop.example/hat.jpg", "https://shop.example/coat.jpg"


def made(at: int = 1000) -> bytes:
    return encode_features(Features(at, b"row"))


def test_all_versions_of_a_url_are_found_in_the_partitions_that_they_are_in() -> None:
    found = Found()
    found.add(
        [
            record(partition=0, key=features_key("v1", HAT), value=made()),
            record(partition=1, key=features_key("v2", HAT), value=made()),
            record(partition=1, key=features_key("v1", HAT), value=made()),  # from before partitions were added
            record(partition=1, key=features_key("v1", COAT), value=made()),
        ],
        Choice(frozenset({HAT})),
    )
    v1, v2 = features_key("v1", HAT), features_key("v2", HAT)
    assert found.keys == {0: {v1: HAT}, 1: {v2: HAT, v1: HAT}}
    assert (found.count, found.records, found.urls) == (3, 4, {HAT})
    assert missing([COAT, HAT, COAT], found) == [COAT]


def test_what_is_forgotten_already_or_was_made_again_later_is_left_alone() -> None:
    found, before = Found(), Choice(before=2000)
    key = features_key("v1", HAT)
    found.add([record(key=key, value=made(1999))], before)
    assert found.count == 1
    found.add([record(key=key, value=made(2000))], before)
    assert found.count == 0
    found.add([record(key=key, value=made(1)), record(key=key, value=None)], before)
    assert found.count == 0


def test_records_that_are_no_features_are_passed_over() -> None:
    found = Found()
    found.add(
        [
            unreadable("t", 0, 1, 2),
            record(key=b"none", value=made()),
            record(key=None, value=made()),
            record(key=features_key("v1", HAT), value=b"none"),
        ],
        Choice(before=10**15),
    )
    assert found.count == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a URL or --older-than"),
        ([HAT, "--older-than", "1d"], "takes URLs or --older-than, not both"),
        (["--older-than", "1 day"], "--older-than '1 day': expected a duration such as 30m, 12h or 90d"),
        (["--older-than", "-1d"], "expected a duration"),
        (["--older-than", ""], "expected a duration"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Command(monkeypatch, capsys)("pictures", "forget", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"TASTESTREAM_SHARE_FEATURES": "false"}, 1, "SHARE_FEATURES is off"),
        ({"TASTESTREAM_BROKER": "127.0.0.1:9", "TASTESTREAM_BROKER_TIMEOUT": "0.2"}, 69, "no broker at"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    environment: dict[str, str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = Command(monkeypatch, capsys)("pictures", "forget", HAT, **environment)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
