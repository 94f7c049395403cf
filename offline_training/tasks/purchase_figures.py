"""Measures the task *purchases*: a method beside what every shop knows, the trend of what was bought. Needs no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import field_metrics, metrics
from model.aggregator import Scored
from model.bundle import Bundle
from model.bundle.manifest import Field
from model.field_metrics import PerField
from model.metrics import Scores
from model.quantization import dequantize, quantize_all
from model.scoring import ScoringBag, score_bags
from offline_training.datasets.records import DatasetError
from offline_training.tasks.purchases import Contexts, Taken, popularity, trend_of

BASELINES: dict[str, int | None] = {"popular so far": None, "last 7 days": 7, "last 28 days": 28}
"""What was bought most, by the length of the window in days."""
TREND = "last 28 days"  # the baseline that counts
FINE = 3  # one of so many fields is fine: those with most categories
KS = (5, 10)  # of the list of all categories
BATCH = 256  # contexts in one call of the aggregator
NO_FIELDS = (
    "task purchases: the labels have no field: expected two labels or more of one parent, such as colour > red and colour > blue, "
    "of which an item has one"
)
TARGETS = 8192  # targets that are measured at once


class Measured(NamedTuple):
    """The figures of a method.

    Attributes:
        figures: means over purchases, by name.
        hits: float [T], macro hit@3 of each target. NaN for one without any field.
        bits: float [T], the surprise at each target, averaged over its fields. NaN for one without any field.
    """

    figures: dict[str, float]
    hits: NDArray[np.float64]
    bits: NDArray[np.float64]


def fine_fields(fields: Sequence[Field]) -> list[int]:
    """Return the places of the fields with most categories: a third of them, at least one."""
    sizes = [-len(field.categories) for field in fields]
    return sorted(np.argsort(sizes, kind="stable")[: max(1, len(fields) // FINE)].tolist())


def measure(scores: Scores, contexts: Contexts, matrix: NDArray[np.bool_], fields: Sequence[Field]) -> Measured:
    """Measure scores, by the definitions of `model.field_metrics`. Each purchase is a target.

    Args:
        scores: float [C, D], of each context.
        contexts: C contexts.
        matrix: labels of the items, bool [N, D].
        fields: labels that exclude each other.

    Raises:
        DatasetError: there are no fields.
    """
    if not fields:
        raise DatasetError(NO_FIELDS)
    columns = [field.categories for field in fields]
    parts = [
        _of_targets(scores, contexts, matrix, columns, start) for start in range(0, len(contexts.targets), TARGETS)
    ]
    ranks, bits, confidence, right, in_list = (np.concatenate(values) for values in zip(*parts, strict=True))
    best, three = (field_metrics.macro(field_metrics.hits_at(k, ranks)) for k in (1, 3))
    surprise = field_metrics.macro(bits)
    users = contexts.user[contexts.of_target]
    if np.isnan(three).all():
        raise DatasetError("task purchases: no item that was bought has a label of a field")
    low, high = field_metrics.interval(three, users)
    new = ~contexts.owned()
    fine = fine_fields(fields)
    errors = field_metrics.calibration_errors(confidence, right)
    found = {
        "macro hit@1": _mean(best),
        "macro hit@3": _mean(three),
        "macro hit@3 low": low,
        "macro hit@3 high": high,
        "macro hit@3, not owned": _mean(three[new]),
        "NDCG@5, fine fields": _mean(field_metrics.macro(field_metrics.gains_at(5, ranks[:, fine]))),
        "bits": _mean(surprise),
        "calibration error": _mean(np.array(errors)),
    }
    found |= {f"recall@{k}": _mean(in_list[:, number]) for number, k in enumerate(KS)}
    found["MRR"] = _mean(in_list[:, -1])
    for field, hit, gain, error in zip(
        fields,
        field_metrics.by_field(field_metrics.hits_at(3, ranks)),
        field_metrics.by_field(field_metrics.gains_at(5, ranks)),
        errors,
        strict=True,
    ):
        found |= {f"{field.name}: hit@3": hit, f"{field.name}: NDCG@5": gain, f"{field.name}: calibration error": error}
    found |= {"purchases": len(three), "not owned": int(new.sum()), "users": len(np.unique(users))}
    return Measured({name: value for name, value in found.items() if not np.isnan(value)}, three, surprise)


def _of_targets(
    scores: Scores, contexts: Contexts, matrix: NDArray[np.bool_], columns: Sequence[Sequence[int]], start: int
) -> tuple[PerField, PerField, PerField, PerField, NDArray[np.float64]]:
    """Rank, bits, confidence and hit of the best category [n, F], and recall and reciprocal rank in the list of all [n, K + 1]."""
    part = slice(start, start + TARGETS)
    own, labels = scores[contexts.of_target[part]], matrix[contexts.targets[part]]
    probabilities = field_metrics.within_fields(own, columns)
    listed = metrics.rank(own, labels)
    in_list = [listed.recall_at(min(k, own.shape[1])) for k in KS]
    return (
        field_metrics.ranks(own, labels, columns),
        field_metrics.bits(probabilities, labels, columns),
        *field_metrics.best_of(probabilities, labels, columns),
        np.stack([*in_list, listed.reciprocal_rank()], axis=1),
    )


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the values that are defined; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def baselines(
    taken: Taken, contexts: Contexts, matrix: NDArray[np.bool_], fields: Sequence[Field]
) -> dict[str, Scores]:
    """Score the contexts by what all users bought before, float64 [C, D] each."""
    return {name: popularity(taken, matrix, fields, days).at(contexts.day) for name, days in BASELINES.items()}


def beside_baselines(
    name: str,
    scores: Scores,
    taken: Taken,
    contexts: Contexts,
    *,
    matrix: NDArray[np.bool_],
    fields: Sequence[Field],
) -> dict[str, dict[str, float]]:
    """Measure a method, the baselines and the ceiling.

    Args:
        name: name of the method's figures, such as `test/purchases`.
        scores: of the method, float [C, D].
        taken: what all users took.
        contexts: C contexts.
        matrix: labels of the items, bool [N, D].
        fields: labels that exclude each other.

    Returns:
        Figures by name, rounded to four places: under `name`, `NAME, BASELINE` and `NAME, ceiling`. Those of the method have its lead
        in macro hit@3, such as `macro hit@3 - last 28 days` with ` low` and ` high`, paired over users.
    """
    own = measure(scores, contexts, matrix, fields)
    users = contexts.user[contexts.of_target]
    found: dict[str, dict[str, float]] = {}
    leads: dict[str, float] = {}
    for other, theirs in baselines(taken, contexts, matrix, fields).items():
        measured = measure(theirs, contexts, matrix, fields)
        found[f"{name}, {other}"] = measured.figures
        lead = field_metrics.paired(own.hits, measured.hits, users)
        leads |= {f"macro hit@3 - {other}{end}": value for end, value in zip(("", " low", " high"), lead, strict=True)}
    labels = matrix[contexts.targets].sum(axis=1)
    known = labels[labels > 0]
    found[f"{name}, ceiling"] = {f"recall@{k}": float(np.minimum(1, k / known).mean()) for k in KS}
    every = {name: own.figures | leads} | found
    return {group: {figure: round(value, 4) for figure, value in figures.items()} for group, figures in every.items()}


def measured_at(
    parts: Mapping[str, Contexts],
    bundle: Bundle,
    taken: Taken,
    codes: NDArray[np.float32],
    *,
    matrix: NDArray[np.bool_],
    fields: Sequence[Field],
) -> dict[str, dict[str, float]]:
    """Measure a bundle beside the baselines at several sets of contexts, by the names of their figures.

    The other arguments are those of `scores_of` and `beside_baselines`. Contexts without targets are left out.
    """
    found: dict[str, dict[str, float]] = {}
    for name, contexts in parts.items():
        if len(contexts.targets):
            scores = scores_of(bundle, taken, contexts, codes)
            found |= beside_baselines(name, scores, taken, contexts, matrix=matrix, fields=fields)
    return found


def scores_of(bundle: Bundle, taken: Taken, contexts: Contexts, codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score contexts as `answers_of` does, float32 [C, D]."""
    found = [answer.scores for answer in answers_of(bundle, taken, contexts, codes)]
    return np.array(found, np.float32).reshape(len(contexts.day), len(bundle.categories))


def answers_of(bundle: Bundle, taken: Taken, contexts: Contexts, codes: NDArray[np.float32]) -> Iterator[Scored]:
    """Score contexts as the profile worker does: with rounded codes, the ages of the items, and the trend by the bundle's own labels.

    Args:
        bundle: the bundle.
        taken: what all users took.
        contexts: C contexts.
        codes: float32 [N, d], by the bundle's own embedder, not rounded yet.

    Returns:
        For each context scores [D], and the attention of each item of the bag. Of an empty bag, the scores are the answer to the
        trend alone, or the prior of a bundle that does not use the trend.
    """
    aggregator, labels = bundle.aggregator(), bundle.item_labels()
    stored = quantize_all(codes)
    # the last row is that of PADDING, -1
    rows = np.concatenate([dequantize(stored, codes.shape[1]), np.zeros((1, codes.shape[1]), np.float32)])
    trend = None if labels is None else trend_of(taken, labels.of(stored))
    nothing = Scored(bundle.prior, np.zeros(0, np.float32))
    for start in range(0, len(contexts.day), BATCH):
        some = np.arange(start, min(start + BATCH, len(contexts.day)))
        sizes = contexts.sizes[some]
        bags = contexts.padded(some)
        windows = [None] * len(some) if trend is None else trend.at(contexts.day[some]).astype(np.float32)
        batch = [
            ScoringBag(rows[items[:size]], log_weight[:size], ages[:size], window)
            for items, log_weight, ages, size, window in zip(*bags, np.maximum(sizes, 1), windows, strict=True)
        ]
        asked = np.flatnonzero(sizes) if trend is None else np.arange(len(some))
        answers = dict(zip(asked.tolist(), score_bags(aggregator, [batch[one] for one in asked]), strict=True))
        for number, size in enumerate(sizes.tolist()):
            answer = answers.get(number, nothing)
            yield Scored(answer.scores, answer.attention[:size])
