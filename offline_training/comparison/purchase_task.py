"""What a comparison needs to know of the task *purchases*, beside its bags: the contexts, and what all users took before."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle.manifest import Field
from model.field_metrics import paired
from model.metrics import Scores
from offline_training.comparison.results import Lead
from offline_training.datasets.records import DatasetError
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.fields import fields_of
from offline_training.tasks.purchase_figures import BASELINES, KS, NO_FIELDS, TREND, measure
from offline_training.tasks.purchases import Contexts, Taken, as_split, make_contexts, popularity
from offline_training.tasks.split import Split


class PurchaseTask(NamedTuple):
    """The validation and the test contexts of the task purchases, in the order of the bags of the split.

    Attributes:
        taken: what all users took.
        validation: contexts with a bag.
        test: contexts with a bag.
        matrix: labels of the items, bool [N, D].
        fields: labels that exclude each other.
    """

    taken: Taken
    validation: Contexts
    test: Contexts
    matrix: NDArray[np.bool_]
    fields: list[Field]

    def trend(self, name: str) -> list[Scores]:
        """Score the validation and the test contexts by a name of `BASELINES`, float64 [C, D] each."""
        daily = popularity(self.taken, self.matrix, self.fields, BASELINES[name])
        return [daily.at(part.day) for part in (self.validation, self.test)]

    def ceilings(self) -> dict[str, float]:
        """Return the highest possible recall of a purchase at each k."""
        labels = self.matrix[self.test.targets].sum(axis=1)
        return {f"recall@{k}": float(np.minimum(1, k / labels[labels > 0]).mean()) for k in KS}

    def trend_leads(self, hits: Mapping[str, NDArray[np.float64]]) -> dict[str, Lead]:
        """Return the lead of each method over the 28-day trend, given its macro hit@3 at each target."""
        theirs = measure(self.trend(TREND)[1], self.test, self.matrix, self.fields).hits
        users = self.test.user[self.test.of_target]
        return {name: Lead(*paired(ours, theirs, users)) for name, ours in hits.items() if name != TREND}


def purchase_task(taken: Taken, catalogue: Catalogue, *, max_bag: int) -> tuple[Split, PurchaseTask]:
    """Make the bags of the task, and what the comparison needs beside them. Users that are set apart are left out.

    Raises:
        DatasetError: the labels have no field, or training, validation or test has no context.
    """
    contexts, matrix = make_contexts(taken, max_bag=max_bag), catalogue.matrix
    fields = fields_of(catalogue.labels, matrix)
    if not fields:
        raise DatasetError(NO_FIELDS)
    return as_split(contexts, matrix), PurchaseTask(taken, contexts.validation, contexts.test, matrix, fields)
