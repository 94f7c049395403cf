"""Rows: a bag survives encoding and decoding, and a store that applies the changes holds the new bag."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.rows import changes, decode_bag, encode_bag, user_of, user_prefix
from tests.streams.profile.test_bag import EMBEDDER, event, events, fold_all


def write(store: dict[bytes, bytes], rows: dict[bytes, bytes | None]) -> None:
    for key, value in rows.items():
        if value is None:
            del store[key]
        else:
            store[key] = value


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4))
def test_a_bag_survives_encoding_and_decoding(history: list[EmbeddedInteraction], max_slots: int) -> None:
    bag = fold_all(history, max_slots)

    assert decode_bag(encode_bag("u", bag).items()) == bag


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4))
def test_writing_the_changes_of_each_event_keeps_the_store_equal_to_the_fold(
    history: list[EmbeddedInteraction], max_slots: int
) -> None:
    store: dict[bytes, bytes] = {}
    bag = Bag()
    for one in history:
        before = decode_bag(store.items())
        bag = fold(bag, one, max_slots=max_slots, embedder_version=EMBEDDER)
        after = fold(before, one, max_slots=max_slots, embedder_version=EMBEDDER)
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
            rows = changes("u", list(store), before, fold(before, one, max_slots=max_slots, embedder_version=EMBEDDER))
            kept = data.draw(st.integers(0, len(rows))) if attempt == 0 else len(rows)
            write(store, dict(list(rows.items())[:kept]))

    bag = fold_all(history, max_slots)
    assert decode_bag(store.items()) == bag
    assert len(store) == len(bag.slots) + (bag.floor is not None), "no row is left behind"


def test_one_event_writes_one_row_whatever_the_size_of_the_bag() -> None:
    for size in (1, 64):
        bag = fold_all([event("view", time + 1, f"i{time}") for time in range(size)])
        after = fold(bag, event("view", 1000, "new"), max_slots=128, embedder_version=EMBEDDER)

        assert len(changes("u", list(encode_bag("u", bag)), bag, after)) == 1


def test_a_prefix_belongs_to_one_user_only() -> None:
    assert not user_prefix("ab").startswith(user_prefix("a"))
    for user in ("a", "ab", "ü", "x" * 256):
        assert user_of(user_prefix(user) + b"\x01item") == user


def test_an_erasure_deletes_every_row_except_the_floor() -> None:
    bag = fold_all([event("view", time, item) for time, item in enumerate("abc", start=1)])
    stored = encode_bag("u", bag)
    after = fold(bag, event("erase", 9), max_slots=8, embedder_version=EMBEDDER)

    rows = changes("u", list(stored), bag, after)

    assert [key for key, value in rows.items() if value is None] == list(stored)
    assert sum(value is not None for value in rows.values()) == 1
