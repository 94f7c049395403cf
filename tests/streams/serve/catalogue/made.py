"""Catalogues, items, codes and bags for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from model.item_search.index import CodeIndex
from model.quantization import HEADER_BYTES, quantize
from streams.item_messages import ItemMessage, ItemRecord
from streams.messages import EmbeddedInteraction, InteractionType
from streams.profile.bag import Bag, Embedder, fold
from streams.serve.catalogue.catalogue import ItemCatalogue, Listed
from streams.serve.catalogue.store import ItemStore

SIZE = 4  # numbers of an embedding
VERSION = "embedder"
EMBEDDER = Embedder(VERSION, HEADER_BYTES + SIZE)


def code_of(name: str) -> bytes:
    """The code of the picture with this name."""
    return quantize(np.random.default_rng(list(name.encode())).normal(size=SIZE).astype(np.float32))


def url(name: str) -> str:
    return f"https://shop.example/{name}.jpg"


def listed(item_id: str, picture: str = "", *, timestamp: int = 0, partition: int = 0, **fields: Any) -> Listed:
    """An item of the topic whose picture has this name, or that of the item."""
    return Listed(ItemRecord(item_id, ItemMessage(image_url=url(picture or item_id), **fields)), timestamp, partition)


def removed(item_id: str, *, timestamp: int = 0, partition: int = 0) -> Listed:
    return Listed(ItemRecord(item_id, None), timestamp, partition)


def event(
    user: str, item_id: str, kind: InteractionType = "view", *, timestamp: int = 1, picture: str = ""
) -> EmbeddedInteraction:
    pictured = kind not in {"return", "erase"}
    name = picture or item_id
    return EmbeddedInteraction(
        event_id=f"{user}-{item_id}-{kind}-{timestamp}",
        user_id=user,
        item_id="" if kind == "erase" else item_id,
        type=kind,
        timestamp=timestamp,
        image_url=url(name) if pictured else "",
        embedder_version=VERSION if pictured else "",
        embedding=code_of(name) if pictured else b"",
    )


def bag_of(*events: EmbeddedInteraction, bag: Bag | None = None) -> Bag:
    bag = bag or Bag()
    for one in events:
        bag = fold(bag, one, max_slots=8, kept={VERSION})
    return bag


class WatchedIndex(CodeIndex):
    """Notes every place that was ever put, in order."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.puts: list[int] = []

    @override
    def put(self, places: NDArray[np.intp], rows: Sequence[bytes]) -> None:
        super().put(places, rows)
        self.puts += places.tolist()


class Made:
    """A catalogue in a folder, with a clock that the test moves."""

    def __init__(self, folder: Path, embedder: Embedder = EMBEDDER) -> None:
        self.folder = folder
        self.embedder = embedder
        self.now = 0.0
        self.open()

    def open(self) -> None:
        self.store = ItemStore(self.folder)
        self.index = WatchedIndex(self.embedder.row_bytes - HEADER_BYTES)
        self.catalogue = ItemCatalogue(self.store, self.index, self.embedder, lambda: self.now)
        self.catalogue.load()

    def restart(self, embedder: Embedder | None = None) -> None:
        self.store.close()
        self.embedder = embedder or self.embedder
        self.open()

    def give(self, *pictures: str) -> None:
        """Features of pictures come."""
        self.catalogue.code({url(name): code_of(name) for name in pictures})
