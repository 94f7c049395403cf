"""Keys and values of the features topic."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.features.records import Features, decode_features, encode_features, features_key, parsed_key

urls = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(urls)
def test_a_key_says_version_and_url(url: str) -> None:
    assert parsed_key(features_key("a" * 64, url)) == ("a" * 64, url)


@given(st.integers(0, 2**63 - 1), st.binary())
def test_a_value_says_when_and_what(made_at: int, row: bytes) -> None:
    assert decode_features(encode_features(Features(made_at, row))) == Features(made_at, row)


@given(st.binary())
def test_any_bytes_are_features_or_one_error(value: bytes) -> None:
    try:
        found = decode_features(value)
    except msgspec.DecodeError:
        return
    assert decode_features(encode_features(found)) == found


@pytest.mark.parametrize("key", [b"", b"\0", b"v1", b"v1\0", b"\0url", b"v1\0\xff"])
def test_bytes_that_are_no_key(key: bytes) -> None:
    assert parsed_key(key) is None
