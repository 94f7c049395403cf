"""Makes the tables of a small shop from a folder of clothing photos: simulated users with a taste for a few kinds.

    python -m tests.benchmarks.small_shop clothing --out small

`clothing` has a folder for each split, with a folder for each kind. A taste is one to four of the ten kinds with weights from a
Dirichlet distribution; a user takes 6 to 30 photos, each of a kind drawn from the taste, on as many days.
"""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

TASTES = (0.4, 0.3, 0.2, 0.1)
"""Probabilities of a taste of 1, 2, 3 and 4 kinds."""
EVENNESS = 2.0
TAKEN = (6, 30)
START = 1_750_000_000  # seconds since the epoch
DAY = 86_400


def write_small_shop(
    clothing: Annotated[Path, typer.Argument(file_okay=False, exists=True)],
    out: Annotated[Path, typer.Option(file_okay=False)],
    users: int = 300,
    seed: int = 0,
) -> None:
    """Write events.csv and items.csv."""
    rng = np.random.default_rng(seed)
    photos: dict[str, list[Path]] = {}
    for path in sorted(clothing.resolve().glob("*/*/*.jpg")):
        photos.setdefault(path.parent.name, []).append(path)
    kinds = sorted(photos)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item", "image", "categories"])
        rows.writerows([path.stem, path, kind] for kind in kinds for path in photos[kind])
    with (out / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "type", "time"])
        for user in range(users):
            size = 1 + int(rng.choice(len(TASTES), p=TASTES))
            taste = rng.choice(kinds, size, replace=False).tolist()
            weights = rng.dirichlet(np.full(size, EVENNESS))
            days = np.sort(rng.choice(365, rng.integers(TAKEN[0], TAKEN[1] + 1), replace=False))
            for day in days.tolist():
                of_kind = photos[taste[int(rng.choice(size, p=weights))]]
                taken = of_kind[int(rng.integers(len(of_kind)))]
                rows.writerow([f"user-{user}", taken.stem, "purchase", START + day * DAY])


if __name__ == "__main__":
    typer.run(write_small_shop)
