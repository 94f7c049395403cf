"""The features that are taken from the topic."""

import numpy as np
import pytest

from model.quantization import quantize, quantize_all
from offline_training.retrain.shared import features_in, take_value
from streams.features.records import Features, encode_features, features_key

ROW = quantize(np.arange(6, dtype=np.float32))
HAT, TIE = "https://shop.example/hat.jpg", "https://shop.example/tie.jpg"


def taken(*records: tuple[bytes | None, bytes | None]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for key, value in records:
        take_value(values, "backbone", {HAT, TIE}, key, value)
    return values


def test_the_newest_value_of_a_wanted_picture_counts() -> None:
    hat, tie = features_key("backbone", HAT), features_key("backbone", TIE)
    assert taken((hat, b"1"), (tie, b"2"), (hat, b"3")) == {HAT: b"3", TIE: b"2"}


def test_a_picture_that_was_forgotten_has_none() -> None:
    hat = features_key("backbone", HAT)
    assert taken((hat, b"1"), (hat, None)) == {}
    assert taken((hat, None), (hat, b"2")) == {HAT: b"2"}


@pytest.mark.parametrize(
    "key", [None, b"", b"backbone", b"\xff\x00\xff", features_key("other", HAT), features_key("backbone", HAT + "?")]
)
def test_other_keys_are_passed_over(key: bytes | None) -> None:
    hat = features_key("backbone", HAT)
    assert taken((hat, b"1"), (key, b"2")) == {HAT: b"1"}
    assert taken((hat, b"1"), (key, None)) == {HAT: b"1"}


def test_features_of_another_size_and_damaged_ones_are_not_used() -> None:
    assert features_in(encode_features(Features(1, ROW)), 6) == ROW
    assert features_in(encode_features(Features(1, ROW)), 7) is None
    assert features_in(encode_features(Features(1, b"")), 6) is None
    assert features_in(b"damaged", 6) is None
    [broken] = quantize_all(np.full((1, 6), np.nan, np.float32))
    assert features_in(encode_features(Features(1, broken)), 6) is None
