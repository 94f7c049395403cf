"""Simulated users over real pictures: a taste is a few categories with weights, a bag is drawn from it, the labels are its categories.

The labels hold categories that the bag does not show, when it is small: no method reaches recall 1, as with real shoppers.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_training.embedders.pictures import Picture, Split
from offline_training.tasks.bags import TYPE_WEIGHTS, Bags, make_bags

MAX_BAG = 64
TASTE_SIZES = (0.4, 0.3, 0.2, 0.1)
"""P(1, 2, 3, 4 categories)."""
MIXED = 0.15
"""Share of users whose taste may cross the sources."""
TASTE_EVENNESS = 2.0
"""Of the Dirichlet weights of a taste's categories."""
SHARES = {"view": 0.5, "cart": 0.2, "purchase": 0.3}
"""Of the interactions."""
DECAYED = 0.3
"""Share of users whose items fade with age as well, by up to three half-lives."""

_LOG_WEIGHTS = np.log([TYPE_WEIGHTS[kind] for kind in SHARES])


@dataclass(frozen=True)
class Pool:
    """The pictures that bags are drawn from.

    `rows[c]` int [n_c]: those of category c in the table of all embeddings, every view of every picture; `sources`: categories
    by source; `categories`: how many there are.
    """

    rows: dict[int, NDArray[np.int64]]
    sources: dict[str, list[int]]
    categories: int


def make_pool(parts: list[tuple[list[Picture], int]], categories: list[str], split: Split, source: str = "") -> Pool:
    """Gather the pictures of one split, and of one source where it is given.

    Args:
        parts: pictures and how many views of each, in the order of the table.
    """
    number = {name: index for index, name in enumerate(categories)}
    rows: dict[int, list[NDArray[np.int64]]] = {}
    sources: dict[str, list[int]] = {}
    count = 0
    for pictures, views in parts:
        for picture in pictures:
            if picture.split == split and source in {"", picture.source}:
                category = number[picture.category]
                rows.setdefault(category, []).append(np.arange(count, count + views))
                known = sources.setdefault(picture.source, [])
                if category not in known:
                    known.append(category)
            count += views
    return Pool({category: np.concatenate(found) for category, found in rows.items()}, sources, len(categories))


def simulate(pool: Pool, count: int, rng: np.random.Generator, max_bag: int = MAX_BAG) -> Bags:
    """Draw `count` users with bags of 1 to `max_bag` items, small ones the more frequent (log-uniform)."""
    rows, log_weights, tastes = zip(*(_user(pool, rng, max_bag) for _ in range(count)), strict=True)
    targets = np.zeros((count, pool.categories), bool)
    for number, taste in enumerate(tastes):
        targets[number, taste] = True
    return make_bags(rows, targets, max_bag, log_weights)


def of_one_category(pool: Pool, size: int) -> Bags:
    """Bags of `size` pictures of one category, each picture of each category that has so many once the first."""
    rows, targets = [], []
    for category, members in pool.rows.items():
        for start in range(len(members) if len(members) >= size else 0):
            rows.append(np.roll(members, -start)[:size])
            targets.append(np.arange(pool.categories) == category)
    return make_bags(rows, np.array(targets, bool).reshape(-1, pool.categories), size)


def _user(
    pool: Pool, rng: np.random.Generator, max_bag: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Rows [m] of the pool, their log weights [m], and the taste's categories [k]."""
    candidates = (
        list(pool.rows) if rng.random() < MIXED else list(pool.sources.values())[rng.integers(len(pool.sources))]
    )
    taste_size = min(len(candidates), 1 + int(rng.choice(len(TASTE_SIZES), p=TASTE_SIZES)))
    taste = rng.choice(candidates, taste_size, replace=False)  # [k]
    size = int(math.exp(rng.uniform(0, math.log(max_bag + 1))))
    weights = rng.dirichlet(np.full(taste_size, TASTE_EVENNESS))
    rows = np.concatenate(
        [
            _draw(pool.rows[category], wanted, rng)
            for category, wanted in zip(taste, rng.multinomial(size, weights), strict=True)
        ]
    )
    rng.shuffle(rows)
    log_weight = _LOG_WEIGHTS[rng.choice(len(SHARES), len(rows), p=list(SHARES.values()))]
    if rng.random() < DECAYED:
        log_weight = log_weight - math.log(2) * rng.uniform(0, 3) * rng.random(len(rows))
    return rows, log_weight.astype(np.float32), taste


def _draw(rows: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct rows; as many as there are when there are fewer than wanted. Held-out pools have one view a picture:
    distinct pictures."""
    return rng.choice(rows, min(wanted, len(rows)), replace=False)
