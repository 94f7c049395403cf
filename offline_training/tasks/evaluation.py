"""Figures of a bundle from the bundle alone: ONNX Runtime and numpy, no torch."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.quantization import as_stored
from model.scoring import Scored, ScoringBag, score_bags
from offline_training.tasks.bags import Bags
from offline_training.tasks.tasks import Split

BATCH = 256
KS = (5, 10, 15, 20)
LARGE_BAG = 8
"""Attention on one item means something from this size on."""


def evaluate(bundle: Bundle, split: Split, embeddings: NDArray[np.float32], ks: Sequence[int] = KS) -> dict[str, float]:
    """Score the held-out bags as the profile worker does, rounding of the rows included.

    Args:
        split: of a data set whose labels are the bundle's categories, in their order.
        embeddings: float32 [items, d], by the bundle's own embedder.
        ks: how many of the best categories recall and precision look at.

    Returns:
        Figures rounded to four places; the threshold is chosen on validation bags.
    """
    rows = as_stored(embeddings)
    threshold = metrics.best_threshold(scores(bundle, split.validation, rows), split.validation.targets)
    found = scores(bundle, split.test, rows)
    return {name: round(value, 4) for name, value in figures(found, split.test, threshold, ks).items()}


def scores(bundle: Bundle, bags: Bags, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores float32 [N, D] of bags whose rows are of `embeddings`."""
    return np.stack([scored.scores for scored in _scored(bundle, bags, embeddings)])


def _scored(bundle: Bundle, bags: Bags, embeddings: NDArray[np.float32]) -> Iterator[Scored]:
    aggregator = bundle.aggregator()
    for start in range(0, len(bags.rows), BATCH):
        some = bags.of(slice(start, start + BATCH))
        batch = [
            ScoringBag(embeddings[rows[:size]], log_weight[:size])
            for rows, log_weight, size in zip(some.rows, some.log_weight, some.sizes, strict=True)
        ]
        yield from score_bags(aggregator, batch)


def figures(scores: NDArray[np.float32], bags: Bags, threshold: float, ks: Sequence[int] = KS) -> dict[str, float]:
    """What is told of scores [N, D], by the definitions of `model.metrics`.

    Precision is the textbook's; `rounded precision` is what the public code of the paper computes. `best micro F1` takes the threshold
    that is best for these very users, an upper bound. `low` and `high` bound 95 % intervals over the choice of users.
    """
    ranked = metrics.rank(scores, bags.targets)
    found: dict[str, float] = {}
    for k in (k for k in ks if k <= scores.shape[1]):
        found[f"recall@{k}"] = metrics.mean(ranked.recall_at(k))
        found[f"precision@{k}"] = metrics.mean(ranked.precision_at(k))
        found[f"rounded precision@{k}"] = metrics.mean(ranked.precision_of_rounded_at(k))
        found[f"NDCG@{k}"] = metrics.mean(ranked.ndcg_at(k))
        found[f"coverage@{k}"] = ranked.coverage_at(k)
    best = metrics.best_threshold(scores, bags.targets)
    counts = metrics.decision_counts(threshold, scores, bags.targets)
    low, high = metrics.bootstrap(counts, metrics.f1)
    return found | {
        "micro F1": metrics.f1(counts),
        "micro F1 low": low,
        "micro F1 high": high,
        "macro F1": metrics.macro_f1(threshold, scores, bags.targets),
        "threshold": threshold,
        "best micro F1": metrics.micro_f1(best, scores, bags.targets),
        "MAP": metrics.mean(ranked.average_precision()),
        "MRR": metrics.mean(ranked.reciprocal_rank()),
        "calibration error": metrics.reliability(scores, bags.targets).expected_calibration_error(),
        "users": len(scores),
    }


def heaviest_share(bundle: Bundle, bags: Bags, embeddings: NDArray[np.float32]) -> float:
    """Mean attention on the heaviest item over bags of `LARGE_BAG` items and more: near 1 when attention has collapsed."""
    large = bags.of(np.flatnonzero(bags.sizes >= LARGE_BAG))
    attention = [scored.attention.max() for scored in _scored(bundle, large, embeddings)]
    return float(np.mean(attention)) if attention else 0.0
