"""Whether the answers of the workers equal the expected ones. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from offline_training.replay.answers.table import Answers


@dataclass
class Agreement:
    """The answers of the workers compared with the expected ones, over the events that were answered.

    Attributes:
        compared: number of answers.
        missing: number of events for which only one side has a recommendation.
        other_bag: number of recommendations from bags of different sizes.
        other_order: number of recommendations from equal bags that list other categories, or list them in another order.
        largest_difference: largest difference between two scores of one category.
        same_figures: whether every figure of every target is equal.
    """

    compared: int = 0
    missing: int = 0
    other_bag: int = 0
    other_order: int = 0
    largest_difference: float = 0.0
    same_figures: bool = False

    @property
    def identical(self) -> bool:
        """Whether both sides have the same bags and the same figures."""
        return self.same_figures and not self.missing and not self.other_bag

    def as_dict(self) -> dict[str, Any]:
        return {"identical": self.identical, **asdict(self)}


def compare(online: Answers, offline: Answers) -> Agreement:
    """Compare answer by answer. `same_figures` stays False: the evaluation sets it."""
    found = Agreement(
        compared=online.count, missing=int((online.recommended != offline.recommended)[online.given].sum())
    )
    for place in np.flatnonzero(online.recommended & offline.recommended).tolist():
        if online.bag_size[place] != offline.bag_size[place]:
            found.other_bag += 1
            continue
        (ours, our_scores), (theirs, their_scores) = online.scores(place), offline.scores(place)
        found.other_order += not np.array_equal(ours, theirs)
        both = dict(zip(theirs.tolist(), their_scores.tolist(), strict=True))
        differences = [
            abs(score - both[one]) for one, score in zip(ours.tolist(), our_scores.tolist(), strict=True) if one in both
        ]
        found.largest_difference = max(found.largest_difference, *differences, 0.0)
    return found
