"""Baselines that know the true labels of a bag's items: what a shop with perfect tags can do without pictures or a network.

    log odds of a label = term of the label + term of the label's grade in the bag + term of the bag's size

The grade is either the number of items since the label was last seen (`recency`) or the number of items that have it (`frequency`).
The three tables of terms are a logistic regression on the training bags. So the scores are probabilities that are comparable between
users, and labels that no item of the bag has are ranked by their frequency.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from offline_training.tasks.bags import PADDING, Bags

PENALTY = 1e-5
"""Weight of the squared tables, added to the mean loss per user. It bounds the terms of labels that are always or never right."""

Grade = Callable[[NDArray[np.bool_], NDArray[np.int32]], NDArray[np.int64]]
"""Grades the labels of bags: matrix bool [items, D], rows int32 [N, M] -> int64 [N, D], from 0 to M."""


def recency(matrix: NDArray[np.bool_], rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the items since the label was last seen: 0 when the newest item has it, M when none has."""
    sizes = (rows != PADDING).sum(1)
    grades = np.full((len(rows), matrix.shape[1]), rows.shape[1])
    for place in range(rows.shape[1]):
        ago = sizes[:, None] - 1 - place
        grades = np.where(matrix[rows[:, place]] & (ago >= 0), ago, grades)
    return grades


def frequency(matrix: NDArray[np.bool_], rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the items of the bag that have the label."""
    grades = np.zeros((len(rows), matrix.shape[1]), np.int64)
    for place in rows.T:
        grades += matrix[place] & (place != PADDING)[:, None]
    return grades


GRADES: dict[str, Grade] = {"recency": recency, "frequency": frequency}


class TrueLabels:
    """Scores labels by their grade in the bag."""

    def __init__(self, matrix: NDArray[np.bool_], train: Bags, grade: Grade) -> None:
        """Fit the tables.

        Args:
            matrix: bool [items, D], the labels of all items.
            train: training bags.
            grade: `recency` or `frequency`.
        """
        self._matrix = matrix
        self._grade = grade
        shape = (train.rows.shape[1], train.rows.shape[1] + 1, matrix.shape[1])  # size - 1, grade, label
        cells = np.ravel_multi_index(self._cells(train.rows), shape).ravel()
        count = int(np.prod(shape))
        pairs = torch.from_numpy(np.bincount(cells, minlength=count).reshape(shape))
        hits = torch.from_numpy(np.bincount(cells, train.targets.ravel(), count).reshape(shape))
        tables = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in shape]
        optimizer = torch.optim.LBFGS(tables, max_iter=300, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            logits = _logits(tables)
            total = (functional.softplus(logits) * pairs - logits * hits).sum() / len(train.rows)
            total = total + PENALTY * sum(table.square().sum() for table in tables)
            total.backward()
            return total

        optimizer.step(loss)  # pyright: ignore[reportArgumentType]  (annotated as returning a float)
        self._scores = torch.sigmoid(_logits(tables)).detach().numpy().astype(np.float32)  # [M, M + 1, D]

    def predict(self, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score bags, int32 [N, M]. Returns float32 [N, D]."""
        return self._scores[self._cells(rows)]

    def _cells(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the size - 1, the grade and the label of each pair of user and label, int64 [N, D] each."""
        grades = self._grade(self._matrix, rows)
        sizes = np.broadcast_to((rows != PADDING).sum(1)[:, None] - 1, grades.shape)
        return sizes, grades, np.broadcast_to(np.arange(grades.shape[1]), grades.shape)


def _logits(tables: list[torch.Tensor]) -> torch.Tensor:
    size, grade, label = tables
    return size[:, None, None] + grade[:, None] + label
