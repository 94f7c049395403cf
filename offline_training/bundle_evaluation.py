"""Figures of a bundle from the bundle alone: ONNX Runtime and numpy, no torch."""

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.quantization import dequantize, quantize
from model.scoring import Bag, score_bags
from offline_training.tasks import PADDING, Bags, Split

BATCH = 256
KS = (5, 10, 15, 20)


def evaluate(bundle: Bundle, split: Split, embeddings: NDArray[np.float32]) -> dict[str, float]:
    """Score the held-out bags as the profile worker does, rounding of the rows included.

    Args:
        split: of a data set whose labels are the bundle's categories, in their order.
        embeddings: float32 [items, d], by the bundle's own embedder.

    Returns:
        Figures rounded to four places; the threshold is chosen on validation bags.
    """
    rows = dequantize([quantize(one) for one in embeddings], bundle.embedding_size)
    threshold = metrics.best_threshold(scores(bundle, split.validation, rows), split.validation.targets)
    found = scores(bundle, split.test, rows)
    return {name: round(value, 4) for name, value in figures(found, split.test, threshold).items()}


def scores(bundle: Bundle, bags: Bags, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores float32 [N, D] of bags whose rows are of `embeddings`."""
    aggregator = bundle.aggregator()
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(bags.rows), BATCH):
        kept = [rows[rows != PADDING] for rows in bags.rows[start : start + BATCH]]
        batch = [Bag(embeddings[rows], np.zeros(len(rows), np.float32)) for rows in kept]
        parts += [scored.scores for scored in score_bags(aggregator, batch)]
    return np.stack(parts)


def figures(scores: NDArray[np.float32], bags: Bags, threshold: float) -> dict[str, float]:
    """What is told of scores [N, D]. `best micro F1` takes the threshold that is best for these very users, an upper bound."""
    found: dict[str, float] = {}
    for k in (k for k in KS if k <= scores.shape[1]):
        found[f"recall@{k}"] = metrics.recall_at(k, scores, bags.targets)
        found[f"precision@{k}"] = metrics.precision_at(k, scores, bags.targets)
    best = metrics.best_threshold(scores, bags.targets)
    return found | {
        "micro F1": metrics.micro_f1(threshold, scores, bags.targets),
        "threshold": threshold,
        "best micro F1": metrics.micro_f1(best, scores, bags.targets),
        "MAP": metrics.mean_average_precision(scores, bags.targets),
        "users": len(scores),
    }
