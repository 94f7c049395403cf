"""Memory and times of the catalogue of a serve worker: `python -m tests.benchmarks.catalogue [ITEMS]`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from rich.console import Console

from model.item_search.index import CodeIndex
from model.quantization import HEADER_BYTES, quantize_all
from streams.item_messages import ItemMessage, ItemRecord
from streams.profile.bag import Embedder
from streams.serve.catalogue.catalogue import CHUNK, ItemCatalogue, Listed
from streams.serve.catalogue.store import ItemStore
from streams.serve.interface import Wanted
from tests.usage import resident_mb

show = Console(soft_wrap=True, highlight=False).print
SIZE = 128  # numbers of an embedding
ROUNDS = 20


def main(count: int) -> None:
    """Fill a catalogue with items of the topic, and ask it."""
    random = np.random.default_rng(1)
    with TemporaryDirectory() as folder:
        store = ItemStore(Path(folder))
        catalogue = ItemCatalogue(store, CodeIndex(SIZE), Embedder("embedder", HEADER_BYTES + SIZE))
        catalogue.load()
        before, begun = resident_mb(), perf_counter()
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            catalogue.apply([Listed(item(number), 0, 0) for number in numbers], {0: numbers[-1] + 1})
            rows = quantize_all(random.normal(size=(len(numbers), SIZE)).astype(np.float32))
            catalogue.code({url(number): row for number, row in zip(numbers, rows, strict=True)})
        seconds, used = perf_counter() - begun, (resident_mb() - before) * 1e6
        show(f"{count} items: {count / seconds:,.0f} items/s until all have codes")
        show(
            f"{catalogue.nbytes / count:.1f} bytes per item in columns and index, and {HEADER_BYTES + SIZE} of its code; "
            f"{used / count:.0f} of the process in all, with the memory of RocksDB"
        )
        for what, wanted in {
            "no filter": Wanted(),
            "all filters": Wanted(category="label 7", in_stock=True, price_max=50, without=[str(n) for n in range(16)]),
        }.items():
            times = []
            for _ in range(ROUNDS):
                begun = perf_counter()
                catalogue.mask(wanted)
                times.append(perf_counter() - begun)
            show(f"mask, {what}: {np.median(times) * 1e3:.2f} ms, at most {max(times) * 1e3:.2f} ms")
        places = random.integers(0, count, 12).tolist()
        begun = perf_counter()
        for _ in range(ROUNDS):
            catalogue.at(places)
        show(f"12 items at their places: {(perf_counter() - begun) / ROUNDS * 1e3:.2f} ms")
        store.close()
        begun = perf_counter()
        store = ItemStore(Path(folder))
        ItemCatalogue(store, CodeIndex(SIZE), Embedder("embedder", HEADER_BYTES + SIZE)).load()
        show(f"start: {perf_counter() - begun:.1f} s")
        store.close()


def url(number: int) -> str:
    """Where the picture of an item is."""
    return f"https://shop.example/pictures/{number}.jpg"


def item(number: int) -> ItemRecord:
    """An item of the topic."""
    labels = [f"label {number % 96}", f"label {number % 7}"]
    message = ItemMessage(
        image_url=url(number),
        title=f"Item {number} of the shop",
        categories=labels,
        price=number % 100,
        in_stock=number % 3 > 0,
    )
    return ItemRecord(str(number), message)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
