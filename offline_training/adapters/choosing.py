"""Chooses an adapter by the users who do not train, and measures what it costs the users who are held out.

The code of each item is adapted by an adapter that was fitted without the item and its variants, as that of a new item would be.
So the figures hold for pictures that training does not have either. The worst case is measured: all items of a bag are adapted.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from model import metrics
from model.bundle import Bundle
from model.bundle.manifest import Adapts
from model.quantization import as_stored
from offline_training.adapters.fitting import METHODS, Fit, Pairs, apply
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import Adaptation
from offline_training.progress import Step
from offline_training.tasks.bags import PADDING, Bags
from offline_training.tasks.evaluation import KS, figures, scores
from offline_training.tasks.split import Split, TaskName

FOLDS = 3  # of the products; each fold is adapted by what was fitted on the others
COMPARED = {f"precision@{k}": k for k in (1, 5, 10)}
"""Figures besides micro F1 whose difference is measured, with their k."""

Codes = NDArray[np.float32]


def adapt(
    bundle: Bundle, codes: Codes, *, old: Bundle, old_codes: Codes, split: Split, task: TaskName, step: Step
) -> Adaptation | None:
    """Fit each method, take the best one, and measure it.

    Args:
        bundle: the new bundle, without an adapter.
        codes: embeddings of the items by `bundle`, float32 [items, d].
        old: the bundle whose embeddings are adapted.
        old_codes: embeddings of the items by `old`, float32 [items, e]. NaN where there is none.
        split: bags of `task` on these items.
        task: name of the task, for the figures.
        step: opens progress bars.

    Returns:
        The adapter, fitted on all items that may train. None if both bundles have the same embedder.

    Raises:
        DatasetError: as `check_enough`.
    """
    if old.embedder_version == bundle.embedder_version:
        return None
    check_enough(old_codes, split)
    known = _known(old_codes)
    fitted = known & ~split.new
    pairs = Pairs(old_codes, as_stored(codes), split.products)
    validation, test = _of_known(split.validation, known), _of_known(split.test, known)
    losses: dict[str, NDArray[np.float64]] = {}
    adapted: dict[str, Codes] = {}
    with step(f"adapter from embedder {old.embedder_version}", len(METHODS) * FOLDS + 1) as advance:
        for name, fit in METHODS.items():
            adapted[name] = out_of_fold(fit, pairs, fitted, advance)
            losses[name] = _losses(scores(bundle, validation, adapted[name]), validation)
        chosen = simplest_of_the_best(losses)
        network: nn.Module = METHODS[chosen](pairs.of(fitted))
        advance(1)
    by_codes = {"native": pairs.new, "adapted": adapted[chosen]}
    if old_codes.shape[1] == pairs.new.shape[1]:
        by_codes["untouched"] = old_codes
    native = scores(bundle, validation, pairs.new)
    compared = {"native": _losses(native, validation)} | losses
    return Adaptation(
        network,
        Adapts(old.embedder_version, old_codes.shape[1], chosen, int(fitted.sum())),
        {f"validation/{task}, loss by adapter": {name: _rounded(loss.mean()) for name, loss in compared.items()}}
        | _costs(bundle, by_codes, test, metrics.best_threshold(native, validation.targets), task),
    )


def check_enough(old_codes: Codes, split: Split) -> None:
    """Check that there are enough pictures and users to fit and measure an adapter. Needs no new bundle, so it can be done first.

    Raises:
        DatasetError: too few products, or no users, have embeddings of the older bundle.
    """
    known = _known(old_codes)
    if len(np.unique(split.products[known & ~split.new] % FOLDS)) < FOLDS:
        raise DatasetError(
            f"--adapts: the older bundle has embeddings of {known.sum()} of {len(known)} items, too few to fit an adapter: "
            "embed more pictures, or leave --adapts out"
        )
    for name, bags in (("validation", split.validation), ("test", split.test)):
        if not len(_of_known(bags, known).rows):
            raise DatasetError(
                f"--adapts: the older bundle has embeddings of all items of no user for {name}, among {len(bags.rows)}: "
                "embed more pictures, or leave --adapts out"
            )


def simplest_of_the_best(losses: dict[str, NDArray[np.float64]]) -> str:
    """Return the first method that is not worse than the best one by more than chance.

    Args:
        losses: by method, the simplest first: the loss of each user, float64 [N].
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    return next(name for name, loss in losses.items() if metrics.bootstrap(loss - losses[best]).low <= 0)


def out_of_fold(
    fit: Fit, pairs: Pairs, fitted: NDArray[np.bool_], advance: Callable[[int], None] = lambda _: None
) -> Codes:
    """Adapt each item by what was fitted on the products of the other folds.

    Args:
        fit: a method.
        pairs: embeddings of the items. Items without an old one (NaN) keep the new one.
        fitted: bool [items], the items that may be fitted on.
        advance: called with 1 after each fold.

    Returns:
        float32 [items, d], as bags keep them.
    """
    found, folds = pairs.new.copy(), pairs.products % FOLDS
    for fold in range(FOLDS):
        of_fold = (folds == fold) & _known(pairs.old)
        found[of_fold] = apply(fit(pairs.of(fitted & (folds != fold))), pairs.old[of_fold])
        advance(1)
    return as_stored(found)


def _known(old: Codes) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(old).all(axis=1))


def _of_known(bags: Bags, known: NDArray[np.bool_]) -> Bags:
    """The bags whose items are all known."""
    return bags.of(np.flatnonzero((known[bags.rows] | (bags.rows == PADDING)).all(axis=1)))


def _losses(scores: NDArray[np.float32], bags: Bags) -> NDArray[np.float64]:
    """The loss of training, of each user [N]: cross-entropy, summed over the labels."""
    likely = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.log(np.where(bags.targets, likely, 1 - likely)).sum(axis=1)


def _costs(
    bundle: Bundle, by_codes: dict[str, Codes], bags: Bags, threshold: float, task: TaskName
) -> dict[str, dict[str, float]]:
    """Figures of the held-out users by each kind of codes, with the differences to native codes and their 95 % intervals.

    The threshold is that of native codes: a shop sets one threshold, whatever is in a bag.
    """
    found = {kind: scores(bundle, bags, codes) for kind, codes in by_codes.items()}
    measured: dict[str, dict[str, float]] = {}
    for kind, of_kind in found.items():
        group = figures(of_kind, bags, threshold, (1, *KS))
        if kind != "native":
            group |= _differences(of_kind, found["native"], bags, threshold)
        measured[f"test/{task}, {kind} codes"] = {name: _rounded(value) for name, value in group.items()}
    return measured


def _differences(
    ours: NDArray[np.float32], native: NDArray[np.float32], bags: Bags, threshold: float
) -> dict[str, float]:
    """Differences to native codes with their intervals over the same users."""
    pairs = np.concatenate([metrics.decision_counts(threshold, one, bags.targets) for one in (ours, native)], axis=1)

    def of_f1(rows: NDArray[np.int64]) -> float:
        return metrics.f1(rows[:, :3]) - metrics.f1(rows[:, 3:])

    found = _with_interval("micro F1", of_f1(pairs), metrics.bootstrap(pairs, of_f1))
    ranked = [metrics.rank(one, bags.targets) for one in (ours, native)]
    for name, k in COMPARED.items():
        if k <= ours.shape[1]:
            difference = ranked[0].precision_at(k) - ranked[1].precision_at(k)
            found |= _with_interval(name, metrics.mean(difference), metrics.bootstrap(difference))
    return found


def _with_interval(name: str, difference: float, interval: metrics.Interval) -> dict[str, float]:
    return {
        f"{name} - native": difference,
        f"{name} - native low": interval.low,
        f"{name} - native high": interval.high,
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)
