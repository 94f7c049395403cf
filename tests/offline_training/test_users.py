"""Simulated users are what the task says: distinct pictures of their own taste, and splits that share none."""

from pathlib import Path

import numpy as np
import pytest

from offline_training.pictures import Picture, category_names
from offline_training.users import Pool, make_pool, pad, simulate

CATEGORIES = ["red", "green", "blue", "cup", "pan"]


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Twenty pictures for each category; an embedding holds its category and the number of its picture."""
    parts = []
    for source, names in (("colours", CATEGORIES[:3]), ("kitchen", CATEGORIES[3:])):
        pictures = [Picture(tmp_path, f"{source}/{name}{n}", name, source, "test") for name in names for n in range(20)]
        embeddings = np.array([[[CATEGORIES.index(p.category), i]] for i, p in enumerate(pictures)], np.float32)
        parts.append((pictures, embeddings))
    return make_pool(parts, CATEGORIES, "test")


def test_every_item_is_of_the_user_s_taste_and_occurs_once(pool: Pool) -> None:
    for user in simulate(pool, 300, np.random.default_rng(0)):
        assert 1 <= len(user.labels) <= 4
        assert set(pool.embeddings[user.rows, 0].astype(int)) <= set(user.labels.tolist())
        assert len(set(user.rows.tolist())) == len(user.rows) == len(user.log_prior)


def test_bags_have_all_sizes_and_small_ones_most(pool: Pool) -> None:
    sizes = np.array([len(user.rows) for user in simulate(pool, 2000, np.random.default_rng(0))])
    assert sizes.min() == 1
    assert sizes.max() > 32
    assert np.median(sizes) < 12


def test_the_same_seed_gives_the_same_users(pool: Pool) -> None:
    first, second = (simulate(pool, 20, np.random.default_rng(7)) for _ in range(2))
    assert all(
        np.array_equal(a.rows, b.rows) and np.array_equal(a.log_prior, b.log_prior)
        for a, b in zip(first, second, strict=True)
    )


def test_padding_is_marked_and_labels_are_set(pool: Pool) -> None:
    users = simulate(pool, 10, np.random.default_rng(1))
    embeddings, log_prior, labels = pad(pool, users, len(CATEGORIES))
    assert embeddings.shape[:2] == log_prior.shape
    for row, user in enumerate(users):
        assert np.isfinite(log_prior[row]).sum() == len(user.rows)
        assert set(np.flatnonzero(labels[row])) == set(user.labels.tolist())


def test_a_pool_holds_its_split_only(tmp_path: Path) -> None:
    pictures = [Picture(tmp_path, "a", "red", "s", "train"), Picture(tmp_path, "b", "red", "s", "test")]
    embeddings = np.array([[[1.0]], [[2.0]]], np.float32)
    assert make_pool([(pictures, embeddings)], ["red"], "train").embeddings.tolist() == [[1.0]]
    assert make_pool([(pictures, embeddings)], ["red"], "test").embeddings.tolist() == [[2.0]]


def test_a_category_that_two_sources_share_is_one(tmp_path: Path) -> None:
    pictures = [
        Picture(tmp_path, "a", "shoes", "x", "train"),
        Picture(tmp_path, "b", "hat", "x", "train"),
        Picture(tmp_path, "c", "shoes", "y", "train"),
    ]
    assert category_names(pictures) == ["hat", "shoes"]
