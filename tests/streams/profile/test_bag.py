"""The fold: any order and any duplication of the events gives the same bag."""

import random
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, Embedder, Moment, fold, items, newest_first

EMBEDDER = "e1"
ROW = bytes(9)  # an embedding of one number, encoded


def event(kind: str, timestamp: int, item: str = "i", event_id: str = "", **fields: object) -> EmbeddedInteraction:
    picture = kind in {"view", "cart", "purchase"}
    return EmbeddedInteraction(
        event_id=event_id or f"{kind}-{item}-{timestamp}",
        user_id="u",
        item_id="" if kind == "erase" else item,
        type=kind,  # pyright: ignore[reportArgumentType]
        timestamp=timestamp,
        **{"image_url": "http://x/i.jpg", "embedder_version": EMBEDDER, "embedding": ROW, **fields} if picture else {},  # pyright: ignore[reportArgumentType]
    )


def fold_all(events: list[EmbeddedInteraction], max_slots: int = 128, kept: Collection[str] = (EMBEDDER,)) -> Bag:
    bag = Bag()
    for one in events:
        bag = fold(bag, one, max_slots=max_slots, kept=kept)
    return bag


def in_bag(bag: Bag, bag_size: int = 64) -> list[str]:
    return [item.item_id for item in items(newest_first(bag), embedder=Embedder(EMBEDDER, len(ROW)), bag_size=bag_size)]


BOTH = frozenset({"e0", "e2"})


def coded(one: EmbeddedInteraction, *versions: str) -> EmbeddedInteraction:
    """The same event with the embeddings of these embedders, of both if none is named."""
    if one.type in {"erase", "return"}:
        return replace(
            one, embedder_version="", embedding=b"", next_embedder_version="", next_embedding=b"", adapted=False
        )
    served, *others = versions or ("e0", "e2")
    return replace(
        one, embedder_version=served, embedding=ROW, adapted=False, image_url="http://x/1", prepared=False,
        next_embedder_version=others[0] if others else "", next_embedding=ROW if others else b"",
    )  # fmt: skip


# Few items, few times and few event ids: ties, returns, erasures and evictions in nearly every example.
events = st.lists(
    st.builds(
        event,
        kind=st.sampled_from(["view", "cart", "purchase", "return", "view", "purchase", "erase"]),
        timestamp=st.integers(1, 6),
        item=st.sampled_from("abcde"),
        event_id=st.sampled_from(["1", "2", "3"]),
        embedder_version=st.sampled_from([EMBEDDER, "e0", "e2"]),
        embedding=st.sampled_from([ROW, bytes(8) + b"y"]),
        image_url=st.sampled_from(["http://x/1", "http://x/2"]),
        adapted=st.booleans(),
        next_embedder_version=st.sampled_from(["", EMBEDDER, "e0", "e2"]),
        next_embedding=st.sampled_from([b"", ROW, bytes(8) + b"z"]),
        prepared=st.booleans(),
    ),
    max_size=14,
)
in_use = st.sampled_from([{EMBEDDER}, {EMBEDDER, "e2"}, {"e0", "e2"}])


@settings(max_examples=1500, deadline=None)
@given(events, st.integers(1, 4), in_use, st.randoms(use_true_random=False))
def test_any_order_and_any_duplication_give_the_same_bag(
    history: list[EmbeddedInteraction], max_slots: int, kept: set[str], rng: random.Random
) -> None:
    delivered = history + rng.choices(history, k=rng.randrange(6)) if history else []
    rng.shuffle(delivered)

    assert fold_all(delivered, max_slots, kept) == fold_all(history, max_slots, kept)


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), in_use)
def test_replaying_all_events_changes_nothing(
    history: list[EmbeddedInteraction], max_slots: int, kept: set[str]
) -> None:
    bag = fold_all(history, max_slots, kept)

    assert fold_all(history + history, max_slots, kept) == bag
    for one in history:
        assert fold(bag, one, max_slots=max_slots, kept=kept) is bag


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), in_use)
def test_a_slot_has_one_picture_of_each_embedder_in_use_and_at_most_one_other(
    history: list[EmbeddedInteraction], max_slots: int, kept: set[str]
) -> None:
    for slot in fold_all(history, max_slots, kept).slots.values():
        versions = [picture.embedder_version for picture in slot.pictures]
        assert versions == sorted(set(versions))
        assert len(set(versions) - kept) <= 1


@settings(max_examples=500, deadline=None)
@given(events, events, st.integers(1, 4), st.randoms(use_true_random=False))
def test_preparing_makes_the_bag_of_one_who_had_the_next_bundle_from_the_start(
    before: list[EmbeddedInteraction], after: list[EmbeddedInteraction], max_slots: int, rng: random.Random
) -> None:
    """Whatever is delivered meanwhile, and also if an erasure or an eviction comes between reading a row and preparing it."""
    both = [coded(one) for one in after]
    served, prepared = (
        [coded(one, "e0") for one in before],
        fold_all([coded(one) for one in before + after], max_slots, BOTH),
    )
    bag = fold_all(served, max_slots, {"e0"})
    rows = [(slot, picture) for slot in bag.slots.values() if (picture := slot.newest_picture)]
    sent = [
        event(
            picture.moment.type, picture.moment.timestamp, slot.item_id, event_id=picture.moment.event_id,
            image_url=picture.image_url, embedder_version="e2", embedding=ROW, prepared=True,
        )
        for slot, picture in rows
    ]  # fmt: skip
    delivered = sent + both
    rng.shuffle(delivered)
    for one in delivered:
        bag = fold(bag, one, max_slots=max_slots, kept=BOTH)

    assert bag == prepared


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_embedding_of_the_picture_itself_replaces_an_adapted_one(order: tuple[int, int]) -> None:
    twice = [event("view", 1, adapted=True, embedding=ROW[:-1] + b"z"), event("view", 1)]
    bag = fold_all([twice[number] for number in order])
    assert [picture.adapted for picture in bag.slots["i"].pictures] == [False]


def test_with_one_embedder_left_the_pictures_of_the_other_leave_as_newer_ones_come() -> None:
    bag = fold_all([coded(event("view", 1)), coded(event("view", 1, "old"))], kept=BOTH)
    bag = fold(bag, event("view", 2, embedder_version="e2"), max_slots=9, kept={"e2"})

    versions = {item: [picture.embedder_version for picture in slot.pictures] for item, slot in bag.slots.items()}
    assert versions == {"i": ["e2"], "old": ["e0", "e2"]}


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4))
def test_a_bag_never_exceeds_max_slots_and_has_no_slot_at_or_below_its_floor(
    history: list[EmbeddedInteraction], max_slots: int
) -> None:
    bag = fold_all(history, max_slots)

    assert len(bag.slots) <= max_slots
    for slot in bag.slots.values():
        for moment in slot.newest.values():
            assert bag.floor is None or moment > bag.floor


def test_a_purchase_puts_an_item_in_the_bag_and_its_return_takes_it_out() -> None:
    assert in_bag(fold_all([event("purchase", 1)])) == ["i"]
    assert in_bag(fold_all([event("purchase", 1), event("return", 2)])) == []
    assert in_bag(fold_all([event("purchase", 1), event("return", 2), event("purchase", 3)])) == ["i"]


def test_a_return_removes_only_earlier_interactions() -> None:
    bag = fold_all([event("view", 1), event("purchase", 2), event("return", 3), event("view", 4)])

    [item] = items(newest_first(bag), embedder=Embedder(EMBEDDER, len(ROW)), bag_size=64)
    assert set(item.types) == {"view"}
    assert item.timestamp == 4


def test_the_newest_items_are_scored_newest_first() -> None:
    bag = fold_all([event("view", time, item) for time, item in enumerate("abcd", start=1)])

    assert in_bag(bag, bag_size=2) == ["d", "c"]


def test_above_max_slots_the_least_recently_touched_item_is_dropped_for_good() -> None:
    history = [event("view", 1, "a"), event("view", 2, "b"), event("purchase", 3, "a"), event("view", 4, "c")]

    bag = fold_all(history, max_slots=2)

    assert in_bag(bag) == ["c", "a"]
    assert bag.floor == Moment(2, "view-b-2", "b", "view")
    assert set(bag.slots["a"].newest) == {"purchase"}, "the view of a is below the floor"
    assert fold(bag, event("purchase", 1, "b"), max_slots=2, kept={EMBEDDER}) is bag


def test_an_erasure_leaves_the_floor_and_nothing_else() -> None:
    bag = fold_all([event("view", 1, "a"), event("purchase", 5, "b"), event("erase", 5)])

    assert bag == Bag({}, Moment(6, "", "", ""))


def test_late_and_replayed_events_do_not_bring_an_erased_user_back() -> None:
    bag = fold_all([event("purchase", 1, "a"), event("erase", 5)])

    for late in (event("purchase", 1, "a"), event("view", 5, "z", event_id="zzz")):
        assert fold(bag, late, max_slots=8, kept={EMBEDDER}) is bag
    assert in_bag(fold(bag, event("view", 6, "new"), max_slots=8, kept={EMBEDDER})) == ["new"]


def test_embeddings_of_another_embedder_are_kept_but_not_scored() -> None:
    bag = fold_all([event("view", 1, "mine"), event("view", 2, "other", embedder_version="e0")])

    assert in_bag(bag) == ["mine"]
    assert set(bag.slots) == {"mine", "other"}


@pytest.mark.parametrize("embedding", [ROW[:-1], ROW + b"x", bytes(2000)])
def test_an_embedding_that_has_not_the_length_of_its_embedder_is_kept_but_not_scored(embedding: bytes) -> None:
    bag = fold_all([event("view", 1, "mine"), event("view", 2, "other", embedding=embedding)])

    assert in_bag(bag, bag_size=1) == ["mine"]
    assert set(bag.slots) == {"mine", "other"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_embeddings_of_one_event_that_of_the_embedder_in_use_wins(order: tuple[int, int]) -> None:
    twice = [
        event("view", 1, embedder_version="zz", event_id="1"),
        event("view", 1, embedder_version=EMBEDDER, event_id="1"),
    ]

    assert in_bag(fold_all([twice[index] for index in order])) == ["i"]
