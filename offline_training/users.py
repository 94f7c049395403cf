"""Simulated users over real pictures: a taste is a few categories with weights, a bag is drawn from it, the labels are its categories.

The labels hold categories that the bag does not show, when it is small: no method reaches recall 1, as with real shoppers.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_training.pictures import Picture, Split

MAX_BAG = 64
TASTE_SIZES = (0.4, 0.3, 0.2, 0.1)
"""P(1, 2, 3, 4 categories)."""
MIXED = 0.15
"""Share of users whose taste may cross the sources."""
TASTE_EVENNESS = 2.0
"""Of the Dirichlet weights of a taste's categories."""
TYPES = {"view": (0.5, 0.3), "cart": (0.2, 0.6), "purchase": (0.3, 1.0)}
"""Share of the interactions, and the weight that serving gives them by default."""
DECAYED = 0.3
"""Share of users whose items fade with age as well, by up to three half-lives."""

_SHARES = np.array([share for share, _ in TYPES.values()])
_LOG_WEIGHTS = np.log([weight for _, weight in TYPES.values()])


@dataclass(frozen=True)
class Pool:
    """The embeddings that bags are drawn from.

    `embeddings` [R, d]; `rows[c]` int [n_c]: those of category c, every view of every picture; `sources`: categories by source.
    """

    embeddings: NDArray[np.float32]
    rows: dict[int, NDArray[np.int64]]
    sources: dict[str, list[int]]


@dataclass(frozen=True)
class User:
    """`rows` int [m] into the pool's embeddings, `log_prior` float32 [m], `labels` int [k]."""

    rows: NDArray[np.int64]
    log_prior: NDArray[np.float32]
    labels: NDArray[np.int64]


def make_pool(parts: list[tuple[list[Picture], NDArray[np.float32]]], categories: list[str], split: Split) -> Pool:
    """Gather the pictures of one split. `parts`: pictures of a source with their embeddings [N, V, d]."""
    number = {name: index for index, name in enumerate(categories)}
    embeddings: list[NDArray[np.float32]] = []
    rows: dict[int, list[NDArray[np.int64]]] = {}
    sources: dict[str, list[int]] = {}
    count = 0
    for pictures, part in parts:
        views = part.shape[1]
        for picture, embedding in zip(pictures, part, strict=True):
            if picture.split != split:
                continue
            category = number[picture.category]
            rows.setdefault(category, []).append(np.arange(count, count + views))
            known = sources.setdefault(picture.source, [])
            if category not in known:
                known.append(category)
            embeddings.append(embedding)
            count += views
    return Pool(
        np.concatenate(embeddings), {category: np.concatenate(found) for category, found in rows.items()}, sources
    )


def simulate(pool: Pool, count: int, rng: np.random.Generator, max_bag: int = MAX_BAG) -> list[User]:
    """Draw `count` users with bags of 1 to `max_bag` items, small ones the more frequent (log-uniform)."""
    return [_user(pool, rng, max_bag) for _ in range(count)]


def pad(
    pool: Pool, users: list[User], categories: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Users as arrays: embeddings [B, M, d] (zeros in padding), log_prior [B, M] (-inf in padding), labels [B, categories]."""
    longest = max(len(user.rows) for user in users)
    rows = np.zeros((len(users), longest), np.int64)
    log_prior = np.full((len(users), longest), -np.inf, np.float32)
    labels = np.zeros((len(users), categories), np.float32)
    for index, user in enumerate(users):
        rows[index, : len(user.rows)] = user.rows
        log_prior[index, : len(user.rows)] = user.log_prior
        labels[index, user.labels] = 1
    return pool.embeddings[rows], log_prior, labels


def _user(pool: Pool, rng: np.random.Generator, max_bag: int) -> User:
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
    log_prior = _LOG_WEIGHTS[rng.choice(len(TYPES), len(rows), p=_SHARES)]
    if rng.random() < DECAYED:
        log_prior = log_prior - math.log(2) * rng.uniform(0, 3) * rng.random(len(rows))
    return User(rows, log_prior.astype(np.float32), taste)


def _draw(rows: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct rows; as many as there are when there are fewer than wanted. Held-out pools have one view a picture:
    distinct pictures."""
    return rng.choice(rows, min(wanted, len(rows)), replace=False)
