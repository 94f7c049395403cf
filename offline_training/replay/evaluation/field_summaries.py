"""Means of the figures by field, each method against the 28-day trend, with intervals over users. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model import field_metrics, metrics
from model.field_metrics import Paired
from offline_training.replay.evaluation.baselines import MONTH
from offline_training.replay.evaluation.fields import MACRO3
from offline_training.replay.evaluation.prequential import MeasuredTargets
from offline_training.replay.evaluation.summaries import MANY_USERS, RESAMPLES

ALL, NEW = "all targets", "items that the user does not own yet"


@dataclass
class FieldLead:
    """The difference of a method and the 28-day trend at the same targets, and its 95 % interval over users."""

    difference: float
    low: float
    high: float

    @property
    def paired(self) -> Paired:
        """The same, with what follows from it."""
        return Paired(self.difference, self.low, self.high)


@dataclass
class FieldSummary:
    """Means over targets.

    Attributes:
        name: of the targets.
        targets: number of targets.
        users: number of users.
        counts: number of targets by figure: those whose item has a value of the field.
        figures: means, by method and figure. A figure that is defined at no target is left out.
        leads: the differences from the 28-day trend, by method and figure.
    """

    name: str
    targets: int
    users: int
    counts: dict[str, int]
    figures: dict[str, dict[str, float]]
    leads: dict[str, dict[str, FieldLead]] = field(default_factory=dict[str, dict[str, FieldLead]])

    def verdict(self, method: str) -> FieldLead | None:
        """The lead of a method that the verdict is about."""
        return self.leads.get(method, {}).get(MACRO3)


def field_summaries(measured: MeasuredTargets) -> list[FieldSummary]:
    """Summarise all targets, and those of items that the user does not own yet, if some are owned."""
    rows = measured.by_field.rows
    against = {method: rows[MONTH] for method in rows if method != MONTH}
    return summaries_of(measured, rows, against)


def summaries_of(
    measured: MeasuredTargets,
    rows: Mapping[str, NDArray[np.float32]],
    against: Mapping[str, NDArray[np.float32]],
) -> list[FieldSummary]:
    """Summarise the figures by field of any methods.

    Args:
        measured: the targets.
        rows: by method, float32 [targets, columns of `measured.by_field`].
        against: by method, the figures of the trend that it is compared with.
    """
    groups = {ALL: np.ones(len(measured.users), bool)}
    if measured.owned.any():
        groups[NEW] = ~measured.owned
    found: list[FieldSummary] = []
    for name, some in groups.items():
        if some.any():
            values = {method: table[some].astype(np.float64) for method, table in rows.items()}
            one = _means(name, values, measured.users[some], measured.by_field.figures)
            for method, other in against.items():
                one.leads[method] = _leads(
                    values[method] - other[some], measured.users[some], measured.by_field.figures
                )
            found.append(one)
    return found


def _means(
    name: str, values: Mapping[str, NDArray[np.float64]], users: NDArray[np.int32], names: list[str]
) -> FieldSummary:
    found = FieldSummary(name, len(users), len(np.unique(users)), {}, {method: {} for method in values})
    for number, figure in enumerate(names):
        defined = {method: ~np.isnan(table[:, number]) for method, table in values.items()}
        told = [mask for mask in defined.values() if mask.any()]
        if told:
            found.counts[figure] = int(np.logical_and.reduce(told).sum())
        for method, mask in defined.items():
            if mask.any():
                found.figures[method][figure] = float(values[method][mask, number].mean())
    return found


def _leads(differences: NDArray[np.float64], users: NDArray[np.int32], names: list[str]) -> dict[str, FieldLead]:
    """The means of differences [targets, columns], with intervals. Columns that are defined at the same targets are drawn together."""
    defined = ~np.isnan(differences)
    masks, kind = np.unique(defined, axis=1, return_inverse=True)
    kind = kind.ravel()
    found: dict[int, FieldLead] = {}
    for number, mask in enumerate(masks.T):
        if not mask.any():
            continue
        columns = np.flatnonzero(kind == number)
        own = differences[np.ix_(mask, columns)]
        sums, counts = field_metrics.by_user(own, users[mask])
        resamples = RESAMPLES if len(counts) <= MANY_USERS else RESAMPLES // 5
        ends = metrics.bootstrap_ratios(sums, counts, resamples=resamples)
        for column, mean, (low, high) in zip(columns.tolist(), own.mean(axis=0).tolist(), ends, strict=True):
            found[column] = FieldLead(mean, low, high)
    return {names[column]: found[column] for column in sorted(found)}
