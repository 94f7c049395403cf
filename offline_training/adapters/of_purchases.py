"""Users of the task *purchases*: asked before each purchase, with the trend, whose codes are all adapted, too: the worst case."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model import field_metrics
from model.bundle import Bundle
from model.bundle.manifest import Field
from model.metrics import Interval
from offline_training.adapters.users import Codes, with_interval
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.fields import fields_of
from offline_training.tasks.purchase_figures import Measured, measure, scores_of
from offline_training.tasks.purchases import Contexts, PurchaseSplit, Taken, make_contexts
from offline_training.tasks.split import TaskName

SHOWN = ("macro hit@1", "macro hit@3", "bits", "purchases", "users")
TASK: TaskName = "purchases"


@dataclass(frozen=True)
class PurchaseUsers:
    """Users at their purchases. The loss of a user is the mean surprise at what was bought, in bits.

    Attributes:
        taken: what all users took.
        split: the moments at which they are asked, by use.
        matrix: labels of the items, bool [items, D].
        fields: labels that exclude each other.
        new: items that must not train.
    """

    taken: Taken
    split: PurchaseSplit
    matrix: NDArray[np.bool_]
    fields: list[Field]
    new: NDArray[np.bool_]
    task: TaskName = TASK

    @classmethod
    def of(cls, catalogue: Catalogue, taken: Taken, new: NDArray[np.bool_] | None = None) -> Self:
        """The users of a data set. new: as in `make_purchases_bundle`."""
        fields = fields_of(catalogue.labels, catalogue.matrix)
        none = np.zeros(len(catalogue.items), bool)
        return cls(taken, make_contexts(taken), catalogue.matrix, fields, none if new is None else new)

    @property
    def products(self) -> NDArray[np.int64]:
        """Each item is a product of its own."""
        return np.arange(len(self.new))

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of moments."""
        return {"validation": len(self.split.validation.day), "test": len(self.split.test.day)}

    def of_known(self, known: NDArray[np.bool_]) -> Self:
        """Keep the moments at which all items of the bag are known."""
        validation, test = (_of_known(some, known) for some in (self.split.validation, self.split.test))
        return replace(self, split=self.split._replace(validation=validation, test=test))

    def losses(self, bundle: Bundle, codes: Codes) -> NDArray[np.float64]:
        """The loss of each user for validation."""
        asked = self.split.validation
        bits = self._measured(bundle, asked, codes).bits
        told = ~np.isnan(bits)
        _, user = np.unique(asked.user[asked.of_target][told], return_inverse=True)
        return np.bincount(user, bits[told]) / np.bincount(user)

    def costs(self, bundle: Bundle, by_codes: Mapping[str, Codes]) -> dict[str, dict[str, float]]:
        """Figures by each kind of codes, and the differences in macro hit@3 and bits."""
        asked = self.split.test
        users = asked.user[asked.of_target]
        found = {kind: self._measured(bundle, asked, codes) for kind, codes in by_codes.items()}
        native, measured = found["native"], dict[str, dict[str, float]]()
        for kind, of_kind in found.items():
            measured[kind] = {name: of_kind.figures[name] for name in SHOWN}
            if kind != "native":
                for name, ours, theirs in (
                    ("macro hit@3", of_kind.hits, native.hits),
                    ("bits", of_kind.bits, native.bits),
                ):
                    lead = field_metrics.paired(ours, theirs, users)
                    measured[kind] |= with_interval(name, lead.difference, Interval(lead.low, lead.high))
        return measured

    def _measured(self, bundle: Bundle, asked: Contexts, codes: Codes) -> Measured:
        scores = scores_of(bundle, self.taken, asked, codes)
        return measure(scores, asked, self.matrix, self.fields)


def _of_known(asked: Contexts, known: NDArray[np.bool_]) -> Contexts:
    unknown = np.bincount(np.repeat(np.arange(len(asked.day)), asked.sizes), ~known[asked.rows], len(asked.day))
    return asked.of(unknown == 0)
