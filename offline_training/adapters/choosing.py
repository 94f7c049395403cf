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
from offline_training.adapters.users import Codes, Users
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import Adaptation
from offline_training.progress import Step

FOLDS = 3  # of the products; each fold is adapted by what was fitted on the others


def adapt(
    bundle: Bundle, codes: Codes, *, old: Bundle, old_codes: Codes, users: Users, step: Step
) -> Adaptation | None:
    """Fit each method, take the best one, and measure it.

    Args:
        bundle: the new bundle, without an adapter.
        codes: embeddings of the items by `bundle`, float32 [items, d].
        old: the bundle whose embeddings are adapted.
        old_codes: embeddings of the items by `old`, float32 [items, e]. NaN where there is none.
        users: users of the task of `bundle` on these items.
        step: opens progress bars.

    Returns:
        The adapter, fitted on all items that may train. None if both bundles have the same embedder.

    Raises:
        DatasetError: as `check_enough`.
    """
    if old.embedder_version == bundle.embedder_version:
        return None
    check_enough(old_codes, users)
    known = _known(old_codes)
    fitted, asked = known & ~users.new, users.of_known(known)
    pairs = Pairs(old_codes, as_stored(codes), users.products)
    losses: dict[str, NDArray[np.float64]] = {}
    adapted: dict[str, Codes] = {}
    with step(f"adapter from embedder {old.embedder_version}", len(METHODS) * FOLDS + 1) as advance:
        for name, fit in METHODS.items():
            adapted[name] = out_of_fold(fit, pairs, fitted, advance)
            losses[name] = asked.losses(bundle, adapted[name])
        chosen = simplest_of_the_best(losses)
        network: nn.Module = METHODS[chosen](pairs.of(fitted))
        advance(1)
    by_codes = {"native": pairs.new, "adapted": adapted[chosen]}
    if old_codes.shape[1] == pairs.new.shape[1]:
        by_codes["untouched"] = np.where(known[:, None], old_codes, pairs.new)
    compared = {"native": asked.losses(bundle, pairs.new)} | losses
    measured = {f"test/{users.task}, {kind} codes": found for kind, found in asked.costs(bundle, by_codes).items()}
    measured[f"validation/{users.task}, loss by adapter"] = {
        name: float(loss.mean()) for name, loss in compared.items()
    }
    return Adaptation(
        network,
        Adapts(old.embedder_version, old_codes.shape[1], chosen, int(fitted.sum())),
        {group: {name: round(value, 4) for name, value in found.items()} for group, found in measured.items()},
    )


def check_enough(old_codes: Codes, users: Users) -> None:
    """Check that there are enough pictures and users to fit and measure an adapter. Needs no new bundle, so it can be done first.

    Raises:
        DatasetError: too few products, or no users, have embeddings of the older bundle.
    """
    known = _known(old_codes)
    if len(np.unique(users.products[known & ~users.new] % FOLDS)) < FOLDS:
        raise DatasetError(
            f"--adapts: the older bundle has embeddings of {known.sum()} of {len(known)} items, too few to fit an adapter: "
            "embed more pictures, or leave --adapts out"
        )
    for name, count in users.of_known(known).counts.items():
        if not count:
            raise DatasetError(
                f"--adapts: the older bundle has embeddings of all items of no user for {name}, among {users.counts[name]}: "
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
