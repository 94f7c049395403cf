"""Measures a bundle from its own files, with ONNX Runtime and numpy. Needs no torch."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.bundle import Bundle
from model.embedder import SplitEmbedder
from model.field_metrics import Paired
from model.quantization import as_stored, quantize_all
from model.scoring import Scored, ScoringBag, score_bags
from offline_training.tasks.bags import Bags
from offline_training.tasks.split import Split

BATCH = 256  # bags in one call of the aggregator
CODING_BATCH = 4096  # items in one call of the item network
KS = (5, 10, 15, 20)
"""The k of the paper's tables."""
LARGE_BAG = 8
"""Number of items from which the attention on a single item says something."""


def codes_of(embedder: SplitEmbedder, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make the embeddings, float32 [items, d], of items whose features, float32 [items, f], come from a file."""
    starts = range(0, len(features), CODING_BATCH)
    parts = (quantize_all(features[start : start + CODING_BATCH]) for start in starts)
    return np.concatenate([embedder.of_features(rows) for rows in parts])


def evaluate(bundle: Bundle, split: Split, embeddings: NDArray[np.float32], ks: Sequence[int] = KS) -> dict[str, float]:
    """Score the held-out bags as the profile worker does, with rounded rows, and measure the scores.

    Args:
        bundle: the bundle.
        split: bags of a data set whose labels are the bundle's categories, in the same order.
        embeddings: float32 [items, d], by the bundle's own embedder.
        ks: the k of recall@k, precision@k and so on.

    Returns:
        Figures by name, rounded to four places. The threshold is chosen on the validation bags.
    """
    rows = as_stored(embeddings)
    threshold = metrics.best_threshold(scores(bundle, split.validation, rows), split.validation.targets)
    found = scores(bundle, split.test, rows)
    return {name: round(value, 4) for name, value in figures(found, split.test, threshold, ks).items()}


def beside_popularity(
    name: str, bundle: Bundle, split: Split, embeddings: NDArray[np.float32], ks: Sequence[int] = KS
) -> dict[str, dict[str, float]]:
    """Measure a bundle, the popularity of each label among training users, and the ceiling.

    Args:
        name: name of the bundle's figures, such as `test/next`.
        bundle: as in `evaluate`.
        split: as in `evaluate`.
        embeddings: as in `evaluate`.
        ks: as in `evaluate`.

    Returns:
        Figures by name, rounded to four places: under `name`, `NAME, popularity` and `NAME, ceiling`. Those of the bundle have its
        lead in micro F1, `micro F1 - popularity` with ` low` and ` high`, on the same users.
    """
    rows = as_stored(embeddings)
    prior = split.train.targets.mean(0, dtype=np.float32)
    by_method = {
        name: (scores(bundle, split.validation, rows), scores(bundle, split.test, rows)),
        f"{name}, popularity": tuple(np.tile(prior, (len(bags.rows), 1)) for bags in (split.validation, split.test)),
    }
    found: dict[str, dict[str, float]] = {}
    counts: list[NDArray[np.int64]] = []
    for method, (validation, test) in by_method.items():
        threshold = metrics.best_threshold(validation, split.validation.targets)
        found[method] = figures(test, split.test, threshold, ks)
        counts.append(metrics.decision_counts(threshold, test, split.test.targets))
    found[name] |= {
        f"micro F1 - popularity{end}": value for end, value in zip(("", " low", " high"), f1_lead(*counts), strict=True)
    }
    found[f"{name}, ceiling"] = ceilings(split.test, ks)
    return {group: {figure: round(value, 4) for figure, value in own.items()} for group, own in found.items()}


def f1_lead(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> Paired:
    """Compute a lead in micro F1 from decision counts [N, 3] of the same users."""

    def difference(rows: NDArray[np.int64]) -> float:
        return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])

    both = np.concatenate([ours, theirs], axis=1)
    return Paired(difference(both), *metrics.bootstrap(both, difference))


def ceilings(bags: Bags, ks: Sequence[int] = KS) -> dict[str, float]:
    """Return the highest possible recall and precision at each k: users with more than k labels, and with fewer."""
    labels = bags.targets.sum(axis=1)
    labels = labels[labels > 0]
    known = [k for k in ks if k <= bags.targets.shape[1]]
    recall = {f"recall@{k}": float(np.minimum(1, k / labels).mean()) for k in known}
    return recall | {f"precision@{k}": float(np.minimum(1, labels / k).mean()) for k in known}


def scores(bundle: Bundle, bags: Bags, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score bags whose rows refer to `embeddings`, float32 [items, d]. Returns float32 [N, D]."""
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


def figures(scores: metrics.Scores, bags: Bags, threshold: float, ks: Sequence[int] = KS) -> dict[str, float]:
    """Measure scores, by the definitions of `model.metrics`.

    Args:
        scores: float [N, D].
        bags: N bags with the targets.
        threshold: score from which a label counts as predicted.
        ks: the k of recall@k, precision@k and so on; those above D are left out.

    Returns:
        Figures by name. `precision` is the textbook's; `rounded precision` is what the public code of the paper computes.
        `best micro F1` uses the threshold that is best for these very users, so it is an upper bound. `micro F1 low` and
        `micro F1 high` bound its 95 % interval over the choice of users.
    """
    ranked = metrics.rank(scores, bags.targets)
    measured: dict[str, float] = {}
    for k in (k for k in ks if k <= scores.shape[1]):
        measured[f"recall@{k}"] = metrics.mean(ranked.recall_at(k))
        measured[f"precision@{k}"] = metrics.mean(ranked.precision_at(k))
        measured[f"rounded precision@{k}"] = metrics.mean(ranked.precision_of_rounded_at(k))
        measured[f"NDCG@{k}"] = metrics.mean(ranked.ndcg_at(k))
        measured[f"coverage@{k}"] = ranked.coverage_at(k)
    best = metrics.best_threshold(scores, bags.targets)
    counts = metrics.decision_counts(threshold, scores, bags.targets)
    low, high = metrics.bootstrap(counts, metrics.f1)
    return measured | {
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
    """Return the mean attention on a bag's heaviest item, over bags of `LARGE_BAG` items or more.

    It is near 1 when the attention has collapsed on one item. It is 0 when there is no such bag.
    """
    large = bags.of(np.flatnonzero(bags.sizes >= LARGE_BAG))
    attention = [scored.attention.max() for scored in _scored(bundle, large, embeddings)]
    return float(np.mean(attention)) if attention else 0.0
