"""The products of the demo and the story of its shoppers. The photos and their credits are in `catalogue/`."""

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

CATALOGUE = Path(__file__).parent / "catalogue"


class Product(Struct, frozen=True):
    """A product. Photos of split `train` trained the shipped bundle; the story uses only those of split `demo`."""

    item_id: str
    name: str
    category: str
    file: str
    split: Literal["train", "demo"]
    photographer: str
    original: str


class Step(Struct, frozen=True):
    """One interaction of a shopper."""

    type: Literal["view", "cart", "purchase", "return"]
    item_id: str


class Shopper(Struct, frozen=True):
    """A shopper and their interactions, in order."""

    user_id: str
    name: str
    taste: str
    steps: list[Step]


class _Catalogue(Struct, frozen=True):
    products: list[Product]


class _Story(Struct, frozen=True):
    users: list[Shopper]


def read_products(folder: Path = CATALOGUE) -> dict[str, Product]:
    """All products, by item id."""
    catalogue = msgspec.json.decode((folder / "catalogue.json").read_bytes(), type=_Catalogue)
    return {product.item_id: product for product in catalogue.products}


def read_shoppers(folder: Path = CATALOGUE) -> list[Shopper]:
    """All shoppers of the story."""
    return msgspec.json.decode((folder / "story.json").read_bytes(), type=_Story).users


def interleaved(shoppers: list[Shopper]) -> list[tuple[Shopper, Step]]:
    """The steps of all shoppers, taking turns."""
    longest = max(len(shopper.steps) for shopper in shoppers)
    return [
        (shopper, shopper.steps[number])
        for number in range(longest)
        for shopper in shoppers
        if number < len(shopper.steps)
    ]
