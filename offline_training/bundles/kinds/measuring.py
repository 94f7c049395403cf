"""How often a bundle names the kind of a photo, on photos of the categories of `categories.csv`.

A photo is *right* if a kind of its category is named, and *near* if that kind or a neighbour is. Both are counted in the first
and in the first three kinds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.quantization import as_stored
from model.scoring import ScoringBag, score_bags
from offline_training.bundles.kinds.graphs import FIELD
from offline_training.bundles.kinds.table import CategoryKinds, read_categories
from offline_training.embedders.training_data.pictures import LabelledPicture
from offline_training.tasks.evaluation import codes_of

BEST = 3  # kinds that are counted
BATCH = 256  # bags in one call of the aggregator


class Named(NamedTuple):
    """A photo, and the kinds that were named for it, the best first."""

    picture: LabelledPicture
    kinds: list[str]
    wanted: CategoryKinds

    def hit(self, k: int, *, near: bool) -> bool:
        """Whether one of the first k kinds is right, or near."""
        wanted = self.wanted.plausible if near else self.wanted.right
        return not wanted.isdisjoint(self.kinds[:k])


def named(bundle: Bundle, pictures: Sequence[LabelledPicture], features: NDArray[np.float32]) -> list[Named]:
    """Name the kinds of photos, each as the only item of a user.

    Args:
        bundle: a bundle with kinds.
        pictures: N photos.
        features: float32 [N, f], by its backbone, as stored.
    """
    codes = as_stored(codes_of(bundle.split_embedder(), features))
    aggregator, alone = bundle.aggregator(), np.zeros(1, np.float32)
    [field] = [field for field in bundle.manifest.fields if field.name == FIELD]
    names = [bundle.categories[place] for place in field.categories]
    table = read_categories()
    found: list[Named] = []
    for start in range(0, len(pictures), BATCH):
        bags = [ScoringBag(code[None], alone) for code in codes[start : start + BATCH]]
        for picture, scored in zip(pictures[start:], score_bags(aggregator, bags), strict=False):
            order = np.argsort(-scored.scores[field.categories], kind="stable")[:BEST]
            found.append(Named(picture, [names[place] for place in order], table[picture.category]))
    return found


def figures(photos: Sequence[Named]) -> dict[str, float]:
    """Return the shares of photos whose kind is named, with the 95 % interval of the last over the choice of photos."""
    measured: dict[str, float] = {}
    for near, kind in ((False, "kind"), (True, "near kind")):
        for k in (1, BEST):
            hits = np.array([photo.hit(k, near=near) for photo in photos], np.float64)
            measured[f"{kind}@{k}"] = float(hits.mean())
            if k == BEST:
                measured[f"{kind}@{k} low"], measured[f"{kind}@{k} high"] = metrics.bootstrap(hits)
    return measured | {"photos": len(photos)}


def mistakes(photos: Sequence[Named], count: int) -> list[Named]:
    """Choose photos without a right or near kind among the first three: by turns one of each class, at most `count`."""
    wrong: dict[str, list[Named]] = {}
    for photo in photos:
        if not photo.hit(BEST, near=True):
            wrong.setdefault(photo.picture.category, []).append(photo)
    turns = max(map(len, wrong.values()), default=0)
    return [members[turn] for turn in range(turns) for members in wrong.values() if turn < len(members)][:count]
