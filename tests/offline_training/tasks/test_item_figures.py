"""Recommended items before each purchase: what is known, what is a target, and what pictures alone find."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from model.item_search.item_metrics import FIGURES, NOT_LISTED
from offline_training.tasks.item_figures import MeasuredItems, measure_items
from offline_training.tasks.item_methods import CO_PURCHASE, LAST_PICTURE, METHODS, RECOMMENDED
from offline_training.tasks.purchases import Contexts, Taken, make_taken

ITEMS, NEW, AGAIN, POPULAR = 300, 299, 0, 7


@pytest.fixture(scope="module")
def measured() -> MeasuredItems:
    """Ada has item 0. She buys it again, with item 299, which nobody has bought and which looks like hers. Bob buys his first, 7."""
    bundle = Bundle.load()
    codes = np.random.default_rng(0).standard_normal((ITEMS, bundle.embedding_size)).astype(np.float32)
    codes[NEW] = codes[AGAIN] + 0.1 * codes[1]
    others = [(f"user {number}", 20, POPULAR if number < 5 else 10 + number) for number in range(30)]
    taken = touches([("ada", 10, AGAIN), *others, ("ada", 21, AGAIN), ("ada", 21, NEW), ("bob", 21, POPULAR)])
    ada, bob = taken.users.index("ada"), taken.users.index("bob")
    contexts = Contexts(
        np.array([ada, bob], np.int32),
        np.array([21, 21], np.int32),
        np.array([0, 1, 1]),
        np.array([AGAIN], np.int32),
        np.zeros(1, np.float32),
        np.full(1, 11, np.float32),
        np.array([AGAIN, NEW, POPULAR], np.int32),
        np.array([0, 0, 1]),
    )
    return measure_items(bundle, taken, contexts, codes)


def touches(of: list[tuple[str, int, int]]) -> Taken:
    names = sorted({user for user, _, _ in of})
    return make_taken(
        names,
        user=np.array([names.index(user) for user, _, _ in of]),
        day=np.array([day for _, day, _ in of]),
        row=np.array([row for _, _, row in of]),
        weight=np.full(len(of), 100),
        bought=np.ones(len(of), bool),
        apart=np.zeros(len(names), bool),
    )


def test_what_is_in_the_bag_is_no_target(measured: MeasuredItems) -> None:
    assert measured.owned == 1
    assert len(measured.users) == 2
    assert measured.never.tolist() == [True, False]
    assert measured.first.tolist() == [False, True]


def test_a_picture_finds_an_article_that_nobody_bought(measured: MeasuredItems) -> None:
    ranks = {name: of[0] for name, of in measured.ranks.items()}
    assert ranks[RECOMMENDED] < 12
    assert ranks[LAST_PICTURE] == 0
    assert ranks["popular in 7 days"] == ranks["popular so far"] == ranks[CO_PURCHASE] == NOT_LISTED


def test_a_user_without_a_bag_gets_what_was_popular_on_earlier_days(measured: MeasuredItems) -> None:
    assert {name: of[1] for name, of in measured.ranks.items()} == dict.fromkeys(METHODS, 0)


def test_the_figures_have_groups_intervals_and_leads(measured: MeasuredItems) -> None:
    found = measured.figures()
    assert found["never bought before, popular in 7 days"]["recall@100"] == 0
    assert found[f"first purchase of a user, {RECOMMENDED}"]["hit@12"] == 1
    own = found[f"all, {RECOMMENDED}"]
    assert own["purchases"] == 2
    for figure in FIGURES:
        assert own[f"{figure} low"] <= own[figure] <= own[f"{figure} high"]
    assert own["hit@12 - co-purchase"] == 0.5
    assert own["hit@12 - co-purchase low"] == 0
    assert own["hit@12 - co-purchase high"] == 1
