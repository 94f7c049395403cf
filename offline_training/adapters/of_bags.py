"""Users of the tasks whose bags each have a set of labels: *next*, *unseen*, *profile*."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.metrics import Interval
from offline_training.adapters.users import Codes, with_interval
from offline_training.tasks.bags import PADDING, Bags
from offline_training.tasks.evaluation import KS, figures, scores
from offline_training.tasks.split import Split, TaskName

COMPARED = {f"precision@{k}": k for k in (1, 5, 10)}
"""Figures besides micro F1 whose difference is measured, with their k."""


@dataclass(frozen=True)
class BagUsers:
    """Users with one bag each. The loss of a user is the cross-entropy of training, summed over the labels."""

    split: Split
    task: TaskName

    @property
    def new(self) -> NDArray[np.bool_]:
        """Items that only held-out users have."""
        return self.split.new

    @property
    def products(self) -> NDArray[np.int64]:
        """Product of each item."""
        return self.split.products

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of users."""
        return {"validation": len(self.split.validation.rows), "test": len(self.split.test.rows)}

    def of_known(self, known: NDArray[np.bool_]) -> Self:
        """Keep the users whose items are all known."""
        validation, test = (_of_known(bags, known) for bags in (self.split.validation, self.split.test))
        return replace(self, split=self.split._replace(validation=validation, test=test))

    def losses(self, bundle: Bundle, codes: Codes) -> NDArray[np.float64]:
        """The loss of each user for validation."""
        bags = self.split.validation
        likely = np.clip(scores(bundle, bags, codes).astype(np.float64), 1e-7, 1 - 1e-7)
        return -np.log(np.where(bags.targets, likely, 1 - likely)).sum(axis=1)

    def costs(self, bundle: Bundle, by_codes: Mapping[str, Codes]) -> dict[str, dict[str, float]]:
        """Figures by each kind of codes. The threshold is that of native codes: a shop sets one, whatever is in a bag."""
        validation, bags = self.split.validation, self.split.test
        threshold = metrics.best_threshold(scores(bundle, validation, by_codes["native"]), validation.targets)
        found = {kind: scores(bundle, bags, codes) for kind, codes in by_codes.items()}
        measured: dict[str, dict[str, float]] = {}
        for kind, of_kind in found.items():
            measured[kind] = figures(of_kind, bags, threshold, (1, *KS))
            if kind != "native":
                measured[kind] |= _differences(of_kind, found["native"], bags, threshold)
        return measured


def _of_known(bags: Bags, known: NDArray[np.bool_]) -> Bags:
    return bags.of(np.flatnonzero((known[bags.rows] | (bags.rows == PADDING)).all(axis=1)))


def _differences(ours: Codes, native: Codes, bags: Bags, threshold: float) -> dict[str, float]:
    """Differences of scores [N, D] to those with native codes, with their intervals over the same users."""
    pairs = np.concatenate([metrics.decision_counts(threshold, one, bags.targets) for one in (ours, native)], axis=1)

    def of_f1(rows: NDArray[np.int64]) -> float:
        return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])

    found = with_interval("micro F1", of_f1(pairs), metrics.bootstrap(pairs, of_f1))
    ranked = [metrics.rank(one, bags.targets) for one in (ours, native)]
    for name, k in COMPARED.items():
        if k <= ours.shape[1]:
            difference = ranked[0].precision_at(k) - ranked[1].precision_at(k)
            interval: Interval = metrics.bootstrap(difference)
            found |= with_interval(name, metrics.mean(difference), interval)
    return found
