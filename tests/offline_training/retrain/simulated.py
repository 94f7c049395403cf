"""A simulated shop: pictures whose features tell their category, and users who stay with their taste. No picture exists anywhere."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.bundle import Bundle
from model.quantization import dequantize, quantize_all
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.split import Histories, make_split
from tests.offline_training.silent import step

CATEGORIES = [f"kind {letter}" for letter in "ABCDEFGHIJ"]
EACH = 20  # items of a category
DAYS = 28
DAY = 86_400_000  # milliseconds
START = 1_700_000_000_000
FEATURES = 1024


@dataclass(frozen=True)
class Shop:
    """The items of a shop, with rows of features."""

    items: dict[str, str]
    """Category by item."""
    features: dict[str, bytes]
    """Row by item."""

    def url(self, item: str) -> str:
        return f"http://10.0.0.1/{item}.jpg"

    def table(self, path: Path, names: Mapping[str, str] | None = None) -> Path:
        """Write the table of the items. names: other names of categories; an item whose category has none is left out."""
        named = {kind: kind for kind in CATEGORIES} if names is None else names
        rows = [f"{item},{named[kind]}" for item, kind in self.items.items() if kind in named]
        path.write_text("\n".join(["item,categories", *rows]))
        return path

    def events(self, users: int, *, seed: int = 0, each: int = 20, name: str = "user") -> list[dict[str, Any]]:
        """Events of users over four weeks, in time order. Each user has a taste of two categories, and rarely takes anything else."""
        chance = random.Random(seed)
        made: list[dict[str, Any]] = []
        of = {kind: [item for item, other in self.items.items() if other == kind] for kind in CATEGORIES}
        for user in range(users):
            taste = chance.sample(CATEGORIES, 2)
            for time in sorted(chance.randrange(DAYS * DAY) for _ in range(each)):
                kind = chance.choice(taste) if chance.random() < 0.9 else chance.choice(CATEGORIES)
                item = chance.choice(of[kind])
                made.append(
                    {
                        "user_id": f"{name}-{user}",
                        "item_id": item,
                        "type": chance.choice(["purchase", "purchase", "view", "cart"]),
                        "timestamp": START + time,
                        "image_url": self.url(item),
                    }
                )
        return sorted(made, key=lambda event: event["timestamp"])


def shop(seed: int = 0) -> Shop:
    """Make a shop. The features of a category lie around a point of their own."""
    noise = np.random.default_rng(seed)
    centres = noise.random((len(CATEGORIES), FEATURES))
    kinds = [kind for kind in CATEGORIES for _ in range(EACH)]
    rows = np.repeat(centres, EACH, axis=0) + noise.normal(0, 0.6, (len(kinds), FEATURES))
    names = [f"item-{number}" for number in range(len(kinds))]
    return Shop(
        dict(zip(names, kinds, strict=True)),
        dict(zip(names, quantize_all(np.maximum(rows, 0).astype(np.float32)), strict=True)),
    )


def bundle_of(
    shop: Shop, out: Path, *, users: int = 150, seed: int = 1, name: str = "shop", version: str = "1"
) -> Bundle:
    """Train a bundle on other users of the shop: the current one."""
    from offline_training.bundles.shop import make_shop_bundle  # noqa: PLC0415 -- it imports torch, which takes seconds

    names = list(shop.items)
    matrix = np.array([[kind == one for one in CATEGORIES] for kind in shop.items.values()])
    catalogue = Catalogue(names, CATEGORIES, dequantize(list(shop.features.values()), FEATURES), matrix, 0)
    rows: dict[str, list[int]] = {}
    for event in shop.events(users, seed=seed, name="earlier"):
        taken = rows.setdefault(event["user_id"], [])
        if (row := names.index(event["item_id"])) not in taken:
            taken.append(row)
    histories = Histories(list(rows), [np.array(taken, np.int32) for taken in rows.values()])
    return make_shop_bundle(
        base=Bundle.load(), catalogue=catalogue, split=make_split("next", histories, catalogue), task="next", aggregator=None,
        name=name, version=version, command="", seed=0, out=out, step=step,
    )  # fmt: skip
