"""Other bundles beside the one that the workers serve: what they would have recommended after the same events."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.prequential import POPULARITY, SERVED

SHOWN = 3  # categories that a message names


def bundles_beside(served: Bundle, folders: Sequence[Path]) -> dict[str, Bundle]:
    """The bundles by the names of their columns. Raises BundleError, or ReplayError when one answers another question."""
    found = [Bundle.load(folder) for folder in folders]
    places = [served.path.resolve()]
    for folder, bundle in zip(folders, found, strict=True):
        if (place := folder.resolve()) in places:
            what = "the bundle that is served" if place == places[0] else "given twice"
            raise ReplayError(f"--beside {folder}: it is {what}: name another one")
        places.append(place)
        _check_categories(served, bundle, folder)
    return dict(zip(names_of(served, found), found, strict=True))


def _check_categories(served: Bundle, bundle: Bundle, folder: Path) -> None:
    more = [name for name in bundle.categories if name not in set(served.categories)]
    fewer = [name for name in served.categories if name not in set(bundle.categories)]
    if more or fewer:
        said = [
            f"{verb} {len(names):,} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for verb, names in (("lacks", fewer), ("has other", more))
            if names
        ]
        raise ReplayError(
            f"--beside {folder}: its categories are not those of {served.name} {served.version}: it {' and '.join(said)}: "
            "train it with the same data set"
        )


def names_of(served: Bundle, others: Sequence[Bundle]) -> list[str]:
    """What others are called: by their names; where these clash, with their versions; or by their folders."""
    candidates: tuple[Callable[[Bundle], str], ...] = (
        lambda bundle: bundle.name,
        lambda bundle: f"{bundle.name} {bundle.version}",
        lambda bundle: bundle.path.resolve().name,
    )
    for name in candidates:
        names = [name(bundle) for bundle in others]
        taken = {SERVED, POPULARITY, name(served), *names}
        if len(taken) == len(others) + 3:
            return names
    return [str(bundle.path.resolve()) for bundle in others]


def prior_of(bundle: Bundle, served: Bundle) -> NDArray[np.float32]:
    """The bundle's prior [D] in the order of the served one's categories."""
    place = {category: number for number, category in enumerate(bundle.categories)}
    return bundle.prior[[place[category] for category in served.categories]]
