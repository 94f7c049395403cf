"""Rows: a bag survives encoding and decoding, and a store that applies the changes holds the new bag."""

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from model.quantization import quantize
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, Moment, Picture, Slot, fold
from streams.profile.rows import (
    MAX_ROW_BYTES,
    UnknownRowFormat,
    changes,
    decode_bag,
    encode_bag,
    encode_floor,
    encode_slot,
    fault,
    header_of,
    user_of,
    user_prefix,
)
from tests.streams.profile.test_bag import EMBEDDER, event, events, fold_all, in_use


def write(store: dict[bytes, bytes], rows: dict[bytes, bytes | None]) -> None:
    for key, value in rows.items():
        if value is None:
            del store[key]
        else:
            store[key] = value


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4))
def test_writing_the_changes_of_each_event_keeps_the_store_equal_to_the_fold(
    history: list[EmbeddedInteraction], max_slots: int
) -> None:
    store: dict[bytes, bytes] = {}
    bag = Bag()
    for one in history:
        before = decode_bag(store.items())
        bag = fold(bag, one, max_slots=max_slots, kept={EMBEDDER})
        after = fold(before, one, max_slots=max_slots, kept={EMBEDDER})
        write(store, changes("u", list(store), before, after))

        assert decode_bag(store.items()) == bag
    assert len(store) == len(bag.slots) + (bag.floor is not None), "no row is left behind"


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), st.data())
def test_repeating_an_event_completes_a_write_that_was_cut_off(
    history: list[EmbeddedInteraction], max_slots: int, data: st.DataObject
) -> None:
    store: dict[bytes, bytes] = {}
    for one in history:
        for attempt in range(2):
            before = decode_bag(store.items())
            rows = changes("u", list(store), before, fold(before, one, max_slots=max_slots, kept={EMBEDDER}))
            kept = data.draw(st.integers(0, len(rows))) if attempt == 0 else len(rows)
            write(store, dict(list(rows.items())[:kept]))

    bag = fold_all(history, max_slots)
    assert decode_bag(store.items()) == bag
    assert len(store) == len(bag.slots) + (bag.floor is not None), "no row is left behind"


def test_one_event_writes_one_row_whatever_the_size_of_the_bag() -> None:
    for size in (1, 64):
        bag = fold_all([event("view", time + 1, f"i{time}") for time in range(size)])
        after = fold(bag, event("view", 1000, "new"), max_slots=128, kept={EMBEDDER})

        assert len(changes("u", list(encode_bag("u", bag)), bag, after)) == 1


def test_a_prefix_belongs_to_one_user_only() -> None:
    assert not user_prefix("ab").startswith(user_prefix("a"))
    for user in ("a", "ab", "ü", "x" * 256):
        assert user_of(user_prefix(user) + b"\x01item") == user


def test_an_erasure_deletes_every_row_except_the_floor() -> None:
    bag = fold_all([event("view", time, item) for time, item in enumerate("abc", start=1)])
    stored = encode_bag("u", bag)
    after = fold(bag, event("erase", 9), max_slots=8, kept={EMBEDDER})

    rows = changes("u", list(stored), bag, after)

    assert [key for key, value in rows.items() if value is None] == list(stored)
    assert sum(value is not None for value in rows.values()) == 1


MOMENT = Moment(1_398_945_600_000, "e1", "shoe", "view")
HEADER, SLOT = header_of(user_prefix("anna")), user_prefix("anna") + b"\x01shoe"
EMBEDDING = quantize(np.arange(4, dtype=np.float32))


def slot(item_id: str = "shoe", kind: str = "view", moment: Moment = MOMENT, embedding: bytes = EMBEDDING) -> bytes:
    return encode_slot(Slot(item_id, {kind: moment}, (Picture(moment, "v1", "https://a.example/", embedding),)))


def early_slot(item_id: str = "shoe", *, pictured: bool = True) -> bytes:
    """A row of format 1."""
    moment = replace(MOMENT, item_id=item_id)
    picture = [moment, "v1", "https://a.example/", EMBEDDING] if pictured else None
    return b"\x01" + msgspec.msgpack.encode([item_id, {"view": moment}, picture])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (HEADER, encode_floor(MOMENT)),
        (HEADER, None),
        (SLOT, slot()),
        (SLOT, early_slot()),
        (SLOT, early_slot(pictured=False)),
        (SLOT, None),
    ],
)
def test_a_row_as_a_worker_writes_it_has_no_fault(key: bytes, value: bytes | None) -> None:
    assert fault(key, value) == ""


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), in_use)
def test_a_bag_survives_encoding_and_decoding(
    history: list[EmbeddedInteraction], max_slots: int, kept: set[str]
) -> None:
    bag = fold_all(history, max_slots, kept)
    assert decode_bag(encode_bag("u", bag).items()) == bag


@pytest.mark.parametrize("pictured", [True, False])
def test_a_row_of_format_1_is_read_and_takes_format_2_when_it_changes(*, pictured: bool) -> None:
    bag = decode_bag([(SLOT, early_slot(pictured=pictured))])
    pictures = (Picture(MOMENT, "v1", "https://a.example/", EMBEDDING),) if pictured else ()
    assert bag == Bag({"shoe": Slot("shoe", {"view": MOMENT}, pictures)})

    assert changes("anna", [SLOT], bag, bag) == {}
    [(key, value)] = encode_bag("anna", bag).items()
    assert (key, value[:1]) == (SLOT, b"\x02")


def test_format_2_takes_less_than_format_1_and_a_second_embedding_little_more_than_its_bytes() -> None:
    one = len(slot())
    assert one < len(early_slot()) - 20
    pictures = tuple(Picture(MOMENT, version, "https://a.example/", EMBEDDING) for version in ("v1", "v2"))
    assert len(encode_slot(Slot("shoe", {"view": MOMENT}, pictures))) == one + len(EMBEDDING) + len("v2") + 5


FAULTS: dict[str, tuple[bytes | None, bytes | None]] = {
    "no key": (None, slot()),
    "an empty key": (b"", slot()),
    "the offset's key": (b"\x00\x00offset", b"7"),
    "a key that ends within the user": (b"\x00\x09anna", slot()),
    "a user that is not UTF-8": (b"\x00\x01\xff\x00", encode_floor(MOMENT)),
    "an item that is not UTF-8": (user_prefix("anna") + b"\x01\xff", slot()),
    "a key without an item": (user_prefix("anna") + b"\x01", slot("")),
    "a header with more": (HEADER + b"x", encode_floor(MOMENT)),
    "a tombstone under a foreign key": (b"{}", None),
    "text": (SLOT, b"garbage"),
    "nothing": (SLOT, b""),
    "a format without content": (SLOT, b"\x01"),
    "a cut row": (SLOT, slot()[:-3]),
    "a byte of another version and no MessagePack": (SLOT, b"\x03" + b"\xc1"),
    "a floor in a slot": (SLOT, encode_floor(MOMENT)),
    "a slot in a header": (HEADER, slot()),
    "another item": (SLOT, early_slot("hat")),
    "a picture of an event that is not there": (
        SLOT,
        b"\x02" + msgspec.msgpack.encode([{"view": [1, "e1"]}, [["cart", "", [["v1", EMBEDDING, False]]]]]),
    ),
    "two pictures of one embedder": (
        SLOT,
        b"\x02" + msgspec.msgpack.encode([{"view": [1, "e1"]}, [["view", "", [["v1", EMBEDDING, False]] * 2]]]),
    ),
    "an unknown type": (SLOT, slot(kind="stare")),
    "a negative time": (SLOT, slot(moment=replace(MOMENT, timestamp=-1))),
    "a time after 9999": (SLOT, slot(moment=replace(MOMENT, timestamp=10**15))),
    "no event": (SLOT, encode_slot(Slot("shoe", {}))),
    "an embedding that no record can hold": (SLOT, slot(embedding=bytes(MAX_ROW_BYTES))),
    "a short embedding": (SLOT, slot(embedding=b"abc")),
    "an infinite embedding": (SLOT, slot(embedding=np.array([0, np.inf], "<f4").tobytes() + b"1234")),
    "a range that multiplies to infinity": (SLOT, slot(embedding=np.array([0, 3e38], "<f4").tobytes() + b"1234")),
}


@pytest.mark.parametrize(("key", "value"), FAULTS.values(), ids=FAULTS)
def test_a_row_that_cannot_be_used_has_a_fault_and_raises_nothing(key: bytes | None, value: bytes | None) -> None:
    assert fault(key, value)


def test_a_row_of_another_format_version_is_not_passed_over() -> None:
    with pytest.raises(UnknownRowFormat, match="run the version"):
        fault(SLOT, b"\x03" + slot()[1:])


@given(st.none() | st.binary(max_size=12), st.none() | st.binary())
@example(SLOT, b"\x01" + b"\x91" * 50_000)
def test_any_bytes_are_a_row_or_have_a_fault(key: bytes | None, value: bytes | None) -> None:
    try:
        found = fault(key, value)
    except UnknownRowFormat:
        return
    if not found and key and value:
        assert decode_bag([(key, value)])


@pytest.mark.parametrize(("key", "value"), [row for row in FAULTS.values() if row[0] and row[1] is not None], ids=str)
def test_a_bag_is_decoded_from_its_other_rows(key: bytes, value: bytes) -> None:
    if not key.startswith(user_prefix("anna")):
        return  # no scan of a user finds it
    found: list[tuple[bytes, str]] = []
    good = user_prefix("anna") + b"\x01hat"

    bag = decode_bag([(good, slot("hat")), (key, value)], lambda key, what: found.append((key, what)))

    assert set(bag.slots) == {"hat"}
    assert found == [(key, fault(key, value))]
