"""What bags add to the trend: the sum over them, however the events came."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.item_labels import ItemLabels
from model.quantization import quantize
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, Embedder, fold
from streams.profile.counts import AT_ONCE, Counted, Counts, changes_of, in_hundredths
from streams.trend.trend import DAY
from tests.oracle import OPTIONS, trend_of

SIZE, CATEGORIES = 4, 5


@dataclass
class Labelled:
    """What the oracle needs of a bundle."""

    embedder_version: str = "e1"
    embedding_size: int = SIZE

    def item_labels(self) -> ItemLabels:
        random = np.random.default_rng(0)
        return ItemLabels(
            weights=random.integers(-127, 128, (CATEGORIES, SIZE)).astype(np.int8),
            scales=np.full(CATEGORIES, 0.02),
            biases=random.normal(size=CATEGORIES),
            category=np.arange(CATEGORIES, dtype=np.int32),
            group=np.array([0, 0, 0, 1, -1], np.int32),
            categories=CATEGORIES,
        )


BUNDLE = Labelled()
LABELS = BUNDLE.item_labels()
RULES = {"embedder": Embedder("e1", 8 + SIZE), "hundredths": in_hundredths(OPTIONS.type_weights)}
CODES = [quantize(np.random.default_rng(number).normal(size=SIZE).astype(np.float32)) for number in range(4)]


def event(
    kind: str, timestamp: int = DAY, item: str = "i", *, user: str = "u", version: str = "e1", code: bytes = CODES[0],
    event_id: str = "1",
) -> EmbeddedInteraction:  # fmt: skip
    pictured = kind in {"view", "cart", "purchase"}
    return EmbeddedInteraction(
        event_id=event_id, user_id=user, item_id="" if kind == "erase" else item, type=kind, timestamp=timestamp,  # pyright: ignore[reportArgumentType]
        embedder_version=version if pictured else "", embedding=code if pictured else b"",
    )  # fmt: skip


events = st.lists(
    st.builds(
        event,
        kind=st.sampled_from(["view", "cart", "purchase", "return", "purchase", "erase"]),
        timestamp=st.sampled_from([DAY - 1, DAY, DAY + 1, 2 * DAY, 40 * DAY]),
        item=st.sampled_from("abcd"),
        user=st.sampled_from("xyz"),
        version=st.sampled_from(["e1", "e1", "e2"]),
        code=st.sampled_from([*CODES, bytes(8 + SIZE + 1)]),
        event_id=st.sampled_from("12"),
    ),
    max_size=30,
)


def folded(given_events: list[EmbeddedInteraction], counts: Counts | None = None, max_slots: int = 3) -> dict[str, Bag]:
    """The bags after events; `counts` gets the changes."""
    bags: dict[str, Bag] = {}
    for one in given_events:
        before = bags.get(one.user_id, Bag())
        after = bags[one.user_id] = fold(before, one, max_slots=max_slots, kept={"e1", "e2"})
        if counts is not None:
            counts.add(changes_of(before, after, **RULES))  # pyright: ignore[reportArgumentType]
    return bags


def as_lists(counts: Counts) -> dict[int, list[int]]:
    return {day: row.tolist() for day, row in counts.rows().items()}


@given(events, st.data())
def test_changes_add_up_to_the_sum_over_the_bags_in_any_order_and_with_duplicates(
    some: list[EmbeddedInteraction], data: st.DataObject
) -> None:
    again = data.draw(st.permutations(some + some[: len(some) // 2]))
    counts, others = Counts(LABELS), Counts(LABELS)
    bags = folded(some, counts)
    folded(again, others)
    expected = trend_of(bags.values(), BUNDLE)  # pyright: ignore[reportArgumentType]
    assert as_lists(counts) == as_lists(others) == expected


@given(events, events)
def test_a_sum_over_some_bags_and_the_changes_since_make_the_whole(
    first: list[EmbeddedInteraction], then: list[EmbeddedInteraction]
) -> None:
    scanned, since = Counts(LABELS), Counts(LABELS)
    bags = folded(first)
    scanned.add(change for bag in bags.values() for change in changes_of(Bag(), bag, **RULES))  # pyright: ignore[reportArgumentType]
    for one in then:
        before = bags.get(one.user_id, Bag())
        bags[one.user_id] = fold(before, one, max_slots=3, kept={"e1", "e2"})
        since.add(changes_of(before, bags[one.user_id], **RULES))  # pyright: ignore[reportArgumentType]
    since.add_rows(scanned.rows())
    assert as_lists(since) == trend_of(bags.values(), BUNDLE)  # pyright: ignore[reportArgumentType]


def test_an_item_counts_by_its_strongest_type_on_the_day_on_which_it_was_last_touched() -> None:
    counts = Counts(LABELS)
    folded([event("purchase", DAY), event("view", 3 * DAY + 5)], counts)
    [shares] = LABELS.of([CODES[0]])
    assert as_lists(counts) == {3: (100 * shares).tolist()}


def test_an_erasure_takes_off_everything_of_a_user_and_nothing_of_another() -> None:
    counts, alone = Counts(LABELS), Counts(LABELS)
    folded([event("cart", DAY, "a", user="ada")], alone)
    some = [event("purchase", DAY + number, str(number), user="bob", code=CODES[number % 4]) for number in range(50)]
    folded([event("cart", DAY, "a", user="ada"), *some, event("erase", 2 * DAY, user="bob")], counts, max_slots=128)
    assert as_lists(counts) == as_lists(alone)


def test_an_event_that_changes_no_count_makes_no_change() -> None:
    before = folded([event("purchase", DAY)])["u"]
    after = fold(before, event("view", DAY + 1), max_slots=3, kept={"e1"})
    assert after is not before
    assert changes_of(before, after, **RULES) == []  # pyright: ignore[reportArgumentType]


def test_many_changes_at_once_are_added_in_parts() -> None:
    counts = Counts(LABELS)
    counts.add([(1, Counted(number % 3, 30, CODES[number % 4])) for number in range(3 * AT_ONCE + 1)])
    total = np.sum(list(counts.rows().values()), axis=0)
    expected = [30 * LABELS.of([CODES[number % 4]])[0] for number in range(3 * AT_ONCE + 1)]
    assert total.tolist() == np.sum(expected, axis=0).tolist()
