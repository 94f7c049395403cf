"""Names the class of a picture by a linear layer over its features, and says how sure that is.

The penalty of the layer is the one with the least cross-entropy on pictures that a layer has not learned from: the pictures are
dealt into folds, class by class, and each fold is named by a layer that was fitted on the others.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from offline_training.bundles.classes.folder import ClassPictures
from offline_training.embedders.probe import LabelledEmbeddings, LinearClassifier, path_of_classifiers
from offline_training.progress import Advance

FOLDS = 5
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Penalties to choose from, strongest first. The best was .03 or .01 for 5 to 300 pictures of a class of clothes."""
NORMAL = 1.96  # standard deviations on each side of a 95 % interval


class Share(NamedTuple):
    """A share with its 95 % interval (Wilson), which is honest for few and for extreme cases.

    Source: Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001), equation 4.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, count: int) -> "Share":
        """Return the share of `hits` among `count`, at least 1."""
        share, z = hits / count, NORMAL**2 / count
        middle = (share + z / 2) / (1 + z)
        half = math.sqrt(share * (1 - share) * z + z * z / 4) / (1 + z)
        return cls(share, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A layer that is fitted on all pictures, and what layers without a picture say of that picture.

    Attributes:
        classifier: the layer.
        held_out: float32 [N, C], logits of each picture by the layer that was fitted without it.
        folds: int64 [N], the fold of each picture.
        strength: the penalty.
    """

    classifier: LinearClassifier
    held_out: NDArray[np.float32]
    folds: NDArray[np.int64]
    strength: float


def deal(numbers: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Deal pictures of the classes int64 [N] into `FOLDS` folds, at random, each class as evenly as it goes."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(numbers), np.int64)
    for start, number in enumerate(np.unique(numbers)):
        members = rng.permutation(np.flatnonzero(numbers == number))
        folds[members] = (start + np.arange(len(members))) % FOLDS
    return folds


def fit_head(pictures: ClassPictures, *, seed: int, advance: Advance) -> FittedHead:
    """Fit the layer. `advance` is called with 1 after each of `FOLDS` + 1 fits."""
    features, numbers = torch.from_numpy(pictures.features), torch.from_numpy(pictures.numbers)
    folds, classes = deal(pictures.numbers, seed), len(pictures.classes)
    held_out = torch.zeros((len(STRENGTHS), len(numbers), classes))
    for fold in range(FOLDS):
        inside = torch.from_numpy(folds == fold)
        if bool(inside.any()):
            others = LabelledEmbeddings(features[~inside], numbers[~inside])
            for place, found in enumerate(path_of_classifiers(others, classes, STRENGTHS)):
                held_out[place, inside] = found.logits(features[inside])
        advance(1)
    losses = [float(functional.cross_entropy(logits, numbers)) for logits in held_out]
    best = int(np.argmin(losses))
    *_, classifier = path_of_classifiers(LabelledEmbeddings(features, numbers), classes, STRENGTHS[: best + 1])
    advance(1)
    return FittedHead(classifier, held_out[best].numpy(), folds, STRENGTHS[best])


def sureness(pictures: ClassPictures, held_out: NDArray[np.float32]) -> dict[str, float]:
    """Return how often the class of a picture is named by layers that have not learned from it."""
    best = held_out.argmax(axis=1)
    right = best == pictures.numbers
    of_class = np.bincount(pictures.numbers, right) / pictures.counts
    share = Share.of(int(right.sum()), len(right))
    return {
        "accuracy": share.value,
        "accuracy low": share.low,
        "accuracy high": share.high,
        "macro accuracy": float(of_class.mean()),
        "largest class": float(pictures.counts.max() / len(right)),
        "pictures": len(right),
        "classes": len(pictures.classes),
        "fewest pictures of a class": int(pictures.counts.min()),
    }


def in_words(pictures: ClassPictures, held_out: NDArray[np.float32]) -> str:
    """Say how sure the layer is, and which class it knows least."""
    best, numbers = held_out.argmax(axis=1), pictures.numbers
    right = best == numbers
    share = Share.of(int(right.sum()), len(right))
    text = (
        f"names the class of {right.sum():,} of {len(right):,} pictures that it has not learned from: {share.value:.2f}, "
        f"95 % interval {share.low:.2f} to {share.high:.2f}; always the largest class: "
        f"{pictures.counts.max() / len(right):.2f}"
    )
    if right.all():
        return text
    hits = np.bincount(numbers, right).astype(int)
    worst = int(np.argmin(hits / pictures.counts))
    taken = np.bincount(best[(numbers == worst) & ~right], minlength=len(pictures.classes))
    return (
        f"{text}. Named least: {pictures.classes[worst]}, {hits[worst]:,} of {pictures.counts[worst]:,}, "
        f"most often taken for {pictures.classes[int(taken.argmax())]}"
    )
