"""Simulated users over real pictures. A taste is a few weighted categories, a bag is drawn from it, and its categories are the labels.

A small bag does not show every category of the taste. So no method can reach a recall of 1, as with real shoppers.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_training.embedders.training_data.pictures import LabelledPicture, Split
from offline_training.tasks.bags import Bags, make_bags
from streams.settings import DEFAULT_TYPE_WEIGHTS, WeightedType

MAX_BAG = 64
TASTE_SIZES = (0.4, 0.3, 0.2, 0.1)
"""Probabilities of a taste of 1, 2, 3 and 4 categories."""
MIXED = 0.15
"""Share of users whose taste may mix categories of several sources."""
TASTE_EVENNESS = 2.0
"""Concentration of the Dirichlet distribution from which a taste's weights are drawn."""
SHARES: dict[WeightedType, float] = {"view": 0.5, "cart": 0.2, "purchase": 0.3}
"""Share of each interaction type."""
DECAYED = 0.3
"""Share of users whose items also lose weight with age, by up to three half-lives."""

_LOG_WEIGHTS = np.log([DEFAULT_TYPE_WEIGHTS[kind] for kind in SHARES])


@dataclass(frozen=True)
class Pool:
    """The pictures that bags are drawn from.

    Attributes:
        rows: by category, the rows int64 [n] of its pictures in the table of all embeddings, every view of every picture.
        sources: by source, its categories.
        categories: D, the number of categories, with those that have no picture here.
    """

    rows: dict[int, NDArray[np.int64]]
    sources: dict[str, list[int]]
    categories: int


def make_pool(
    parts: list[tuple[list[LabelledPicture], int]], categories: list[str], split: Split, source: str = ""
) -> Pool:
    """Gather the pictures of one split.

    Args:
        parts: pictures and the number of views of each, in the order of the table of embeddings.
        categories: names of all D categories.
        split: split whose pictures are gathered.
        source: if given, only this source's pictures are gathered.
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
    return Pool({category: np.concatenate(parts) for category, parts in rows.items()}, sources, len(categories))


def simulate(pool: Pool, count: int, rng: np.random.Generator, max_bag: int = MAX_BAG) -> Bags:
    """Draw `count` users. Bag sizes are log-uniform from 1 to `max_bag`, so small bags are the most frequent."""
    rows, log_weights, tastes = zip(*(_user(pool, rng, max_bag) for _ in range(count)), strict=True)
    targets = np.zeros((count, pool.categories), bool)
    for number, taste in enumerate(tastes):
        targets[number, taste] = True
    return make_bags(rows, targets, max_bag, log_weights)


def of_one_category(pool: Pool, size: int) -> Bags:
    """Make bags of `size` pictures of one category; each picture is first in one bag.

    Categories with fewer than `size` pictures are left out.
    """
    rows, targets = [], []
    for category, members in pool.rows.items():
        for start in range(len(members) if len(members) >= size else 0):
            rows.append(np.roll(members, -start)[:size])
            targets.append(np.arange(pool.categories) == category)
    return make_bags(rows, np.array(targets, bool).reshape(-1, pool.categories), size)


def _user(
    pool: Pool, rng: np.random.Generator, max_bag: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Draw one user: rows [m] of the pool, their log weights [m], and the categories [k] of the taste."""
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
    """Draw distinct rows, all of them when there are fewer than wanted.

    Held-out pools have one view of each picture, so distinct rows are distinct pictures there.
    """
    return rng.choice(rows, min(wanted, len(rows)), replace=False)
