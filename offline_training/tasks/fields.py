"""The fields of a data set: groups of labels that exclude each other, such as the colours."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.bundle.manifest import Field
from offline_training.datasets.labels import SEPARATOR

UNNAMED = "category"  # the field of labels without a parent


def by_parent(labels: Sequence[str]) -> dict[str, list[int]]:
    """Group the numbers of labels by their parent, "" for none, in the order of the first label of each. ` > ` separates levels."""
    groups: dict[str, list[int]] = {}
    for column, label in enumerate(labels):
        groups.setdefault(label.rpartition(SEPARATOR)[0], []).append(column)
    return groups


def exclude_each_other(columns: Sequence[int], matrix: NDArray[np.bool_]) -> bool:
    """Whether no item has two of these labels. matrix: labels of N items, bool [N, D]."""
    return bool((matrix[:, columns].sum(axis=1) <= 1).all())


def fields_of(labels: Sequence[str], matrix: NDArray[np.bool_]) -> list[Field]:
    """Find the fields: labels with one parent, at least two, of which no item has more than one.

    Args:
        labels: D names. ` > ` separates the levels of a name.
        matrix: labels of N items, bool [N, D].
    """
    return [
        Field(parent or UNNAMED, columns)
        for parent, columns in by_parent(labels).items()
        if len(columns) > 1 and exclude_each_other(columns, matrix)
    ]
