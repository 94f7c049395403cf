"""How good a ranking of categories is, by the textbook. One definition for training, evaluation and the replay.

Every function takes `scores` [N, D] (higher is better) and `labels` [N, D] (truthy where relevant), one row a user.
Users without any label are left out of recall, precision and average precision, where they have no value. Ties are
broken by the lower category number.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.bool_] | NDArray[np.float32]


def recall_at(k: int, scores: Scores, labels: Labels) -> float:
    """Mean over users of hits among the best k / relevant categories. Its ceiling is below 1 where a user has more than k labels."""
    hits, relevant = _hits(k, scores, labels)
    return float(np.mean(hits / relevant))


def precision_at(k: int, scores: Scores, labels: Labels) -> float:
    """Mean over users of hits among the best k / k. Its ceiling is below 1 where a user has fewer than k labels."""
    hits, _ = _hits(k, scores, labels)
    return float(np.mean(hits / k))


def mean_average_precision(scores: Scores, labels: Labels) -> float:
    """Mean over users of the precision at the rank of each relevant category (Manning et al., "Introduction to
    Information Retrieval", 8.4)."""
    scores, relevance = _with_labels(scores, labels)
    ranked = np.take_along_axis(relevance, _best_first(scores), axis=1)  # [N,D]
    precision = np.cumsum(ranked, axis=1) / np.arange(1, ranked.shape[1] + 1)  # [N,D]
    return float(np.mean((precision * ranked).sum(axis=1) / ranked.sum(axis=1)))


def micro_f1(threshold: float, scores: Scores, labels: Labels) -> float:
    """F1 of the decisions `score >= threshold` over all pairs of user and category; 0 where nothing is decided or relevant."""
    decided, relevance = scores >= threshold, labels.astype(bool)
    found = int((decided & relevance).sum())
    total = int(decided.sum()) + int(relevance.sum())
    return 2 * found / total if total else 0.0


def best_threshold(scores: Scores, labels: Labels) -> float:
    """The threshold of the highest `micro_f1`, in steps of .01: choose it on validation users, use it on others."""
    thresholds = np.arange(0.01, 1.0, 0.01)
    return float(thresholds[int(np.argmax([micro_f1(float(threshold), scores, labels) for threshold in thresholds]))])


def _hits(k: int, scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each user with labels: relevant categories among the best k, and relevant categories; both int [N]."""
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k = {k}: expected 1 to {scores.shape[1]}, the number of categories")
    scores, relevance = _with_labels(scores, labels)
    best = _best_first(scores)[:, :k]  # [N,k]
    return np.take_along_axis(relevance, best, axis=1).sum(axis=1), relevance.sum(axis=1)


def _with_labels(scores: Scores, labels: Labels) -> tuple[Scores, NDArray[np.bool_]]:
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(
            f"scores and labels must be [users, categories] alike, found {scores.shape} and {labels.shape}"
        )
    relevance = labels.astype(bool)
    kept = relevance.any(axis=1)
    if not kept.any():
        raise ValueError("no user has a label: nothing to measure")
    return scores[kept], relevance[kept]


def _best_first(scores: Scores) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")
