"""Figures by field: which colour, which department did the user take? One row per target, one column per figure. Pure.

    macro hit@1, macro hit@3   whether the value of the item is among the best 1 or 3 of its field, averaged over the fields of the item
    NDCG@5 of fine fields      the same with NDCG, over the third of the fields with the most values, at least one
    bits                       -log2 of the probability of the value, averaged over the fields of the item; fewer are better
    hit@1 of F, hit@3 of F     of the field F

A recommendation tells the best values of each field, and its list the best categories of all fields. Values that neither names count
as wrong. Bits need probabilities, so only recommendations with values of fields have them. The probability that the named values of a
field leave is spread over the others in proportion to the prior of the bundle. Where a recommendation has no values of fields, figures
are derived from its list alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import field_metrics
from model.bundle.manifest import Field
from offline_training.replay.answers.table import Listed
from offline_training.tasks.fields import UNNAMED, fields_of

ROWS = 512  # targets measured per batch
SHOWN = 12  # fields with columns of their own: those of the most items
VALUES = 3  # of each field that a baseline names, as many as a recommendation
REST = 1e-6  # least probability of all values that are not named: scores in a message are rounded to it
LEAST_WEIGHT = 1e-4  # of a value in the prior, so that a value that nobody took in training has some probability
MACRO1, MACRO3, FINE, BITS = "macro hit@1", "macro hit@3", "NDCG@5 of fine fields", "bits"
NOT_NAMED = -np.inf


@dataclass(frozen=True)
class FieldLayout:
    """The fields, and what is computed of each.

    Attributes:
        names: of the fields.
        columns: the numbers of the categories of each field.
        weights: of all categories within their fields, by the prior of the bundle, float64 [D].
        fine: the numbers of the fine fields.
        shown: the numbers of the fields that have columns of their own.
    """

    names: list[str]
    columns: list[list[int]]
    weights: NDArray[np.float64]
    fine: list[int]
    shown: list[int]

    @property
    def categories(self) -> list[int]:
        """The numbers of the categories of all fields."""
        return [number for columns in self.columns for number in columns]

    @property
    def figures(self) -> list[str]:
        """The names of the columns."""
        own = [f"{figure} of {self.names[number]}" for figure in ("hit@1", "hit@3") for number in self.shown]
        return [MACRO1, MACRO3, FINE, BITS, *own]


def fields_for(
    declared: Sequence[Field], categories: Sequence[str], labels: Mapping[str, Sequence[int]]
) -> Sequence[Field]:
    """Return the fields of a bundle that the items have values of: those that it declares, else those that the labels make.

    Args:
        declared: the fields of the bundle's manifest.
        categories: of the bundle.
        labels: by item, the numbers of its categories.
    """
    seen = {number for numbers in labels.values() for number in numbers}
    if told := [field for field in declared if not seen.isdisjoint(field.categories)]:
        return told
    matrix = np.zeros((len(labels), len(categories)), bool)
    for row, numbers in zip(matrix, labels.values(), strict=True):
        row[list(numbers)] = True
    others = {number for field in declared for number in field.categories}  # of which no item has one
    own = [
        Field(field.name, [number for number in field.categories if number not in others])
        for field in fields_of(categories, matrix)
    ]
    found = [field for field in own if len(field.categories) > 1]
    if found or not declared:
        return found
    return [Field(UNNAMED, [number for number in range(len(categories)) if number not in others])]


def layout_of(fields: Sequence[Field], prior: NDArray[np.float32], labels: Mapping[str, Sequence[int]]) -> FieldLayout:
    """Choose the fine fields, and those that are shown. Without fields, all categories are one."""
    used = [one for one in fields if len(one.categories) > 1] or [Field(UNNAMED, list(range(len(prior))))]
    columns = [list(one.categories) for one in used]
    items = np.bincount([number for numbers in labels.values() for number in numbers], minlength=len(prior))
    by_size = sorted(range(len(used)), key=lambda number: -len(columns[number]))
    by_items = sorted(range(len(used)), key=lambda number: -int(items[columns[number]].sum()))
    return FieldLayout(
        names=[one.name for one in used],
        columns=columns,
        weights=field_metrics.within_fields(np.maximum(prior, LEAST_WEIGHT)[None], columns)[0],
        fine=sorted(by_size[: max(1, len(used) // 3)]),
        shown=sorted(by_items[:SHOWN]),
    )


@dataclass
class FieldFigures:
    """Figures by field of all targets.

    Attributes:
        figures: names of the columns.
        rows: by method, float32 [targets, columns]. NaN: the item has no value of the field, or the method tells no probability.
        derived: the methods whose figures come from the list of the best categories alone.
        fine: names of the fine fields.
    """

    figures: list[str]
    rows: dict[str, NDArray[np.float32]]
    derived: list[str]
    fine: list[str]


class FieldMeter:
    """Measures one method, in batches of targets."""

    def __init__(self, layout: FieldLayout) -> None:
        self._layout = layout
        categories = len(layout.weights)
        self._order = np.full((ROWS, categories), NOT_NAMED)
        self._shares = np.full((ROWS, categories), np.nan)
        self._labels = np.zeros((ROWS, categories), bool)
        self._filled = 0
        self._rows: list[NDArray[np.float32]] = []

    def add(self, listed: Listed, labels: Sequence[int]) -> None:
        """Add a target: what was recommended before it, and its categories."""
        row = self._filled
        # Both are the best of a field, best first. So one continues the other.
        named = dict.fromkeys((*listed.categories.tolist(), *listed.values.tolist()))
        self._order[row, list(named)] = -np.arange(len(named))
        self._shares[row, listed.values] = listed.shares
        self._labels[row, list(labels)] = True
        self._filled += 1
        if self._filled == ROWS:
            self._measure()

    def rows(self) -> NDArray[np.float32]:
        """Return the figures so far, float32 [targets, columns]."""
        if self._filled:
            self._measure()
        return np.concatenate([np.zeros((0, len(self._layout.figures)), np.float32), *self._rows])

    def _measure(self) -> None:
        count, layout = self._filled, self._layout
        order, labels = self._order[:count], self._labels[:count]
        ranks = field_metrics.ranks(order, labels, layout.columns)
        named = field_metrics.ranks(np.where(np.isfinite(order), 0.0, -1.0), labels, layout.columns) == 0
        ranks[~np.isnan(ranks) & ~named] = np.inf
        surprise = field_metrics.bits(self._probabilities(), labels, layout.columns)
        told = ~np.isnan(self._shares[:count])
        for number, columns in enumerate(layout.columns):
            surprise[~told[:, columns].any(axis=1), number] = np.nan
        hit1, hit3 = field_metrics.hits_at(1, ranks), field_metrics.hits_at(3, ranks)
        found = [
            *(field_metrics.macro(some) for some in (hit1, hit3)),
            field_metrics.macro(field_metrics.gains_at(5, ranks)[:, layout.fine]),
            field_metrics.macro(surprise),
            *(hits[:, number] for hits in (hit1, hit3) for number in layout.shown),
        ]
        self._rows.append(np.stack(found, axis=1).astype(np.float32))
        self._order[:], self._shares[:], self._labels[:], self._filled = NOT_NAMED, np.nan, False, 0

    def _probabilities(self) -> NDArray[np.float64]:
        """The probabilities of all values: as named, and the rest of a field by the prior."""
        shares = self._shares[: self._filled]
        found = np.where(np.isnan(shares), 0.0, shares)
        for columns in self._layout.columns:
            own = found[:, columns]
            weights = np.where(np.isnan(shares[:, columns]), self._layout.weights[columns], 0.0)
            total = weights.sum(axis=1, keepdims=True)
            rest = np.maximum(1 - own.sum(axis=1, keepdims=True), REST)
            found[:, columns] = own + np.where(total > 0, rest * weights / np.where(total > 0, total, 1), 0.0)
        return found
