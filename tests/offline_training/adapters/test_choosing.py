"""The simplest of the best methods is taken. What is measured of an item comes from an adapter that has not seen its product."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from model.quantization import as_stored
from offline_training.adapters.choosing import FOLDS, check_enough, out_of_fold, simplest_of_the_best
from offline_training.adapters.fitting import Pairs, rotation
from offline_training.adapters.of_bags import BagUsers
from offline_training.datasets.records import DatasetError
from offline_training.tasks.bags import Bags, make_bags
from offline_training.tasks.split import Split

RNG = np.random.default_rng(0)
LOSS = RNG.gamma(2, size=400)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({"a": LOSS, "b": LOSS}, "a"),
        ({"a": LOSS, "b": LOSS - 0.1}, "b"),
        ({"a": LOSS, "b": LOSS + 0.1}, "a"),
        ({"a": LOSS + 0.2, "b": LOSS - 1e-3 * RNG.normal(size=400), "c": LOSS}, "b"),
        ({"a": LOSS, "b": LOSS + RNG.normal(-0.01, 1, 400)}, "a"),
        ({"a": LOSS[:1], "b": LOSS[:1]}, "a"),
    ],
    ids=["equal", "better", "worse", "the second is as good as the best", "better by chance", "one user"],
)  # fmt: skip
def test_the_first_method_that_is_not_worse_beyond_chance_is_taken(
    losses: dict[str, np.ndarray], expected: str
) -> None:
    assert simplest_of_the_best(losses) == expected


def made(items: int = 60) -> Pairs:
    """Pictures in pairs of one product."""
    old = RNG.normal(size=(items, 4)).astype(np.float32)
    new = as_stored((old @ RNG.normal(size=(4, 4))).astype(np.float32))
    return Pairs(old, new, np.repeat(np.arange(items // 2), 2))


def test_an_item_is_adapted_by_what_other_products_taught() -> None:
    pairs, everything = made(), np.ones(60, bool)
    spoilt = pairs.new.copy()
    product = pairs.products == 7
    spoilt[product] += 1000
    before, after = (
        out_of_fold(rotation, pairs, everything),
        out_of_fold(rotation, pairs._replace(new=spoilt), everything),
    )
    fold = pairs.products % FOLDS == 7 % FOLDS
    assert np.array_equal(before[fold], after[fold])
    assert not np.isclose(before[~fold], after[~fold]).all(axis=1).any()


def test_items_that_must_not_train_teach_nothing_and_are_adapted() -> None:
    pairs = made()
    new = np.arange(60) >= 50
    spoilt = pairs.new.copy()
    spoilt[new] += 1000
    before, after = out_of_fold(rotation, pairs, ~new), out_of_fold(rotation, pairs._replace(new=spoilt), ~new)
    assert np.array_equal(before, after)
    assert not np.array_equal(before[new], pairs.new[new])


def test_an_item_without_an_old_embedding_keeps_its_own_and_spoils_none() -> None:
    pairs = made()
    old = pairs.old.copy()
    old[11] = np.nan
    known = np.arange(60) != 11
    found = out_of_fold(rotation, pairs._replace(old=old), known)
    assert np.array_equal(found[11], as_stored(pairs.new)[11])
    assert np.isfinite(found).all()


def bags(*rows: int) -> Bags:
    return make_bags([np.array([row]) for row in rows], np.ones((len(rows), 1), bool), 2)


@pytest.mark.parametrize(
    ("known", "new", "complaint"),
    [
        ([0, 1, 3, 4], [], "embeddings of 4 of 6 items, too few to fit"),
        ([], [], "embeddings of 0 of 6 items, too few to fit"),
        ([0, 1, 2, 3, 4], [2], "embeddings of 5 of 6 items, too few to fit"),
        ([0, 1, 2, 3], [], "of no user for validation, among 1"),
        ([0, 1, 2, 4], [], "of no user for test, among 2"),
    ],
)
def test_too_few_pictures_or_users_are_refused(known: list[int], new: list[int], complaint: str) -> None:
    old = np.full((6, 3), np.nan, np.float32)
    old[known] = 1
    split = Split(bags(0), bags(4), bags(3, 5), np.isin(np.arange(6), new), np.arange(6))
    with pytest.raises(DatasetError, match=complaint):
        check_enough(old, BagUsers(split, "next"))
    check_enough(np.ones((6, 3), np.float32), BagUsers(split._replace(new=np.zeros(6, bool)), "next"))


def test_adapted_codes_are_as_bags_keep_them() -> None:
    pairs = made()
    found = out_of_fold(rotation, pairs, np.ones(60, bool))
    levels = (found - found.min(1, keepdims=True)) / (np.ptp(found, axis=1)[:, None] / 255)
    assert np.allclose(levels, np.rint(levels), atol=1e-2)
