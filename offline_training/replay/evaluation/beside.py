"""Other bundles, measured beside the one that the workers serve: their recommendations after the same events."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from offline_training.replay.evaluation.baselines import BASELINES
from offline_training.replay.evaluation.prequential import READ, SERVED
from offline_training.replay.exceptions import ReplayError

SHOWN = 3  # categories that an error message lists


def bundles_beside(served: Bundle, folders: Sequence[Path]) -> dict[str, Bundle]:
    """Load other bundles, by the names of their columns.

    Raises:
        BundleError: a bundle is damaged.
        ReplayError: a bundle has other categories, is the served one, or is given twice.
    """
    found = [Bundle.load(folder) for folder in folders]
    places = [served.path.resolve()]
    for folder, bundle in zip(folders, found, strict=True):
        if (place := folder.resolve()) in places:
            what = "this is the bundle that is served" if place == places[0] else "given twice"
            raise ReplayError(f"--beside {folder}: {what}; give another one")
        places.append(place)
        _check_categories(served, bundle, folder)
    return dict(zip(names_of(served, found), found, strict=True))


def _check_categories(served: Bundle, bundle: Bundle, folder: Path) -> None:
    more = [name for name in bundle.categories if name not in set(served.categories)]
    fewer = [name for name in served.categories if name not in set(bundle.categories)]
    if more or fewer:
        differences = [
            f"{verb} {len(names):,} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for verb, names in (("lacks", fewer), ("has other", more))
            if names
        ]
        raise ReplayError(
            f"--beside {folder}: its categories differ from those of {served.name} {served.version}: it {' and '.join(differences)}; "
            "train it on the same data set"
        )


def names_of(served: Bundle, others: Sequence[Bundle]) -> list[str]:
    """Name the columns of other bundles: by name; if names clash, by name and version; if these clash, by folder."""
    candidates: tuple[Callable[[Bundle], str], ...] = (
        lambda bundle: bundle.name,
        lambda bundle: f"{bundle.name} {bundle.version}",
        lambda bundle: bundle.path.resolve().name,
    )
    for name in candidates:
        names = [name(bundle) for bundle in others]
        taken = {SERVED, READ, *BASELINES, name(served), *names}
        if len(taken) == len(others) + len(BASELINES) + 3:
            return names
    return [str(bundle.path.resolve()) for bundle in others]


def prior_of(bundle: Bundle, served: Bundle) -> NDArray[np.float32]:
    """The prior of a bundle [D], in the order of the categories of the served one."""
    place = {category: number for number, category in enumerate(bundle.categories)}
    return bundle.prior[[place[category] for category in served.categories]]
