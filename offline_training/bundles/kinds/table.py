"""Reads the tables of kinds and of categories, and the part of MobileNet's last layer that tells the kinds."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offline_training.datasets.arrays import opened_arrays
from offline_training.datasets.records import DatasetError

KINDS, CATEGORIES = (Path(__file__).with_name(name) for name in ("kinds.csv", "categories.csv"))
WEIGHTS, BIASES = "Logits/Conv2d_1c_1x1/weights", "Logits/Conv2d_1c_1x1/biases"  # of the last layer
OUTPUTS = 1001
AND = " + "  # between kinds in a cell
SOFTNESS = 4.0
"""How far several classes of a kind that are somewhat likely count beside one that is very likely. 1: the probabilities of the classes
are added up. More: the mean of the outputs counts more. Chosen on photos for training and validation."""


@dataclass(frozen=True)
class KindHead:
    """A linear layer over features, with an output for each class, and a softmax over the kinds.

    What a kind gets from the outputs `o` of its m classes is `s log(mean(exp(o / s)))`, between their mean and their maximum; s is
    `SOFTNESS`. Dividing by m instead of adding up means that a kind with many classes is not wanted more than one with few: with
    features that say nothing, all kinds have the same probability.

    Attributes:
        kinds: K names.
        weight: float32 [n, d].
        bias: float32 [n]. It is less than that of the class by `s log(m)`.
        kind: int64 [n], the kind of each output.
    """

    kinds: list[str]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    kind: NDArray[np.int64]

    @property
    def membership(self) -> NDArray[np.float32]:
        """float32 [n, K]: 1 where an output belongs to a kind."""
        return (self.kind[:, None] == np.arange(len(self.kinds))).astype(np.float32)

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each kind, float32 [N, K], for features [N, d]."""
        outputs = (features @ self.weight.T + self.bias) / SOFTNESS
        classes = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = (classes @ self.membership) ** SOFTNESS
        return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class CategoryKinds:
    """The kinds of the products of a category."""

    right: frozenset[str]
    near: frozenset[str]
    """Kinds where a customer would look next."""

    @property
    def plausible(self) -> frozenset[str]:
        """All of them."""
        return self.right | self.near


def read_kinds() -> dict[str, dict[int, str]]:
    """Return by kind its classes: the place in MobileNet's 1001 outputs, and the name."""
    table: dict[str, dict[int, str]] = {}
    for row in _rows(KINDS):
        table.setdefault(row["kind"], {})[int(row["class"])] = row["name"]
    return table


def read_categories() -> dict[str, CategoryKinds]:
    """Return the kinds of the categories that the table knows."""
    return {
        row["category"]: CategoryKinds(
            *(frozenset(filter(None, row[column].split(AND))) for column in ("kinds", "near"))
        )
        for row in _rows(CATEGORIES)
    }


def _rows(path: Path) -> Iterator[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return csv.DictReader(line for line in lines if not line.startswith("#"))


def kind_head(weights: Path) -> KindHead:
    """Take the classes of the table from MobileNet's TensorFlow arrays (`.npz`).

    Raises:
        DatasetError: `weights` is no such file.
    """
    table = read_kinds()
    classes = [number for members in table.values() for number in members]
    sizes = [len(members) for members in table.values()]
    with opened_arrays(weights) as arrays:
        shapes = [arrays[name].shape[-2:] for name in (WEIGHTS, BIASES) if name in arrays.files]
        if [shape[-1] for shape in shapes] != [OUTPUTS, OUTPUTS]:
            raise DatasetError(
                f"{weights}: expected the arrays of MobileNet v1, found none of its last layer of {OUTPUTS:,} outputs"
            )
        weight = arrays[WEIGHTS][0, 0].T[classes]
        bias = arrays[BIASES][classes] - SOFTNESS * np.repeat(np.log(sizes), sizes)
    return KindHead(
        list(table),
        np.ascontiguousarray(weight, np.float32),
        bias.astype(np.float32),
        np.repeat(np.arange(len(sizes)), sizes),
    )
