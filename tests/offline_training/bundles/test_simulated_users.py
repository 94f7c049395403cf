"""Simulated users: each bag holds distinct pictures of the user's own taste, and splits share no picture."""

from pathlib import Path

import numpy as np
import pytest

from offline_training.bundles.simulated_users import Pool, make_pool, of_one_category, simulate
from offline_training.embedders.training_data.pictures import LabelledPicture, category_names
from offline_training.tasks.bags import PADDING

CATEGORIES = ["red", "green", "blue", "cup", "pan"]
SOURCES = {"colours": CATEGORIES[:3], "kitchen": CATEGORIES[3:]}
VIEWS = 3


@pytest.fixture
def pictures(tmp_path: Path) -> list[LabelledPicture]:
    """Twenty pictures of each category."""
    return [
        LabelledPicture(tmp_path, f"{source}/{name}{number}", name, source, "test" if number else "train")
        for source, names in SOURCES.items()
        for name in names
        for number in range(20)
    ]


@pytest.fixture
def pool(pictures: list[LabelledPicture]) -> Pool:
    return make_pool([(pictures[:60], VIEWS), (pictures[60:], 1)], CATEGORIES, "test")


@pytest.fixture
def table(pictures: list[LabelledPicture]) -> list[LabelledPicture]:
    """The picture of each row of the table of embeddings."""
    return [picture for picture in pictures[:60] for _ in range(VIEWS)] + pictures[60:]


def test_every_item_of_a_bag_fits_the_taste_and_occurs_once(pool: Pool, table: list[LabelledPicture]) -> None:
    users = simulate(pool, 300, np.random.default_rng(0))
    for rows, log_weight, targets, size in zip(*users, users.sizes, strict=True):
        assert 1 <= targets.sum() <= 4
        taste = {CATEGORIES[category] for category in np.flatnonzero(targets)}
        assert {table[row].category for row in rows[:size]} <= taste
        assert {table[row].split for row in rows[:size]} == {"test"}
        assert len(set(rows[:size].tolist())) == size
        assert np.isfinite(log_weight[:size]).all()
        assert (rows[size:] == PADDING).all()
        assert np.isneginf(log_weight[size:]).all()


def test_bags_have_all_sizes_and_most_are_small(pool: Pool) -> None:
    sizes = simulate(pool, 2000, np.random.default_rng(0)).sizes
    assert sizes.min() == 1
    assert sizes.max() > 32
    assert np.median(sizes) < 12


def test_the_same_seed_gives_the_same_users(pool: Pool) -> None:
    first, second = (simulate(pool, 20, np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_pool_holds_only_pictures_of_its_split_and_source(
    pictures: list[LabelledPicture], table: list[LabelledPicture]
) -> None:
    parts = [(pictures[:60], VIEWS), (pictures[60:], 1)]
    rows = make_pool(parts, CATEGORIES, "train", "colours").rows
    assert {CATEGORIES[category] for category in rows} == set(SOURCES["colours"])
    assert {table[row].name for row in np.concatenate(list(rows.values()))} == {
        "colours/red0",
        "colours/green0",
        "colours/blue0",
    }
    assert [len(members) for members in rows.values()] == [VIEWS] * 3


def test_each_picture_comes_first_in_one_bag_of_its_category(pool: Pool, table: list[LabelledPicture]) -> None:
    bags = of_one_category(pool, 3)
    assert sorted(bags.rows[:, 0]) == sorted(np.concatenate(list(pool.rows.values())))
    for rows, targets in zip(bags.rows, bags.targets, strict=True):
        assert {table[row].category for row in rows} == {CATEGORIES[int(targets.argmax())]}
    assert of_one_category(pool, 100).rows.shape == (0, 100)


def test_a_category_of_two_sources_is_listed_once(tmp_path: Path) -> None:
    pictures = [
        LabelledPicture(tmp_path, "a", "shoes", "x", "train"),
        LabelledPicture(tmp_path, "b", "hat", "x", "train"),
        LabelledPicture(tmp_path, "c", "shoes", "y", "train"),
    ]
    assert category_names(pictures) == ["hat", "shoes"]
