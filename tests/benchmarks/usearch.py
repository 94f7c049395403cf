"""usearch (HNSW) against the exact search: recall@12, milliseconds of a query, of adding an item, and memory.

    pip install usearch
    OMP_NUM_THREADS=1 python -m tests.benchmarks.usearch [--items 100000] [--dtype f16]

Times are processor times of one thread. Codes are clusters of vectors, as those of a catalogue are.
"""

import argparse
from importlib import import_module
from time import thread_time
from typing import Any

import numpy as np
from rich.console import Console

from model.item_search.index import CodeIndex
from model.quantization import dequantize, quantize_all
from tests.usage import resident_mb

SIZE, KINDS, COUNT, CALLS, AT_ONCE = 128, 500, 12, 200, 20_000
SHARE = 0.05  # of the items pass the filter
EXPANSIONS = (64, 128, 256, 512)  # `expansion_search`

show = Console(soft_wrap=True, highlight=False).print


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="items in the catalogue (default 100,000)")
    parser.add_argument("--dtype", default="i8", help="how usearch keeps a number: i8, f16 or f32 (default i8)")
    asked = parser.parse_args()
    items: int = asked.items
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((KINDS, SIZE)).astype(np.float32)
    graph: Any = import_module("usearch.index").Index(ndim=SIZE, metric="cos", dtype=asked.dtype)
    exact, built, memory = CodeIndex(SIZE), 0.0, 0.0
    for start in range(0, items, AT_ONCE):
        count = min(AT_ONCE, items - start)
        values = kinds[rng.integers(0, KINDS, count)] + 0.7 * rng.standard_normal((count, SIZE))
        rows = quantize_all(values.astype(np.float32))
        exact.put(np.arange(start, start + count), rows)
        vectors, before, begun = dequantize(rows, SIZE), resident_mb(), thread_time()
        graph.add(np.arange(start, start + count), vectors, threads=1)
        built += thread_time() - begun
        memory += resident_mb() - before
    show(
        f"{items:,} items: usearch takes {built / items * 1e3:.2f} ms to add an item, and {memory * 1024**2 / items:.0f} bytes for it"
    )
    queries = (kinds[rng.integers(0, KINDS, CALLS)] + 0.7 * rng.standard_normal((CALLS, SIZE))).astype(np.float32)
    few = rng.random(items) < SHARE
    for what, mask in (("all items", None), (f"{SHARE:.0%} of the items", few)):
        begun = thread_time()
        wanted = [exact.search(query[None], COUNT, mask).places[0] for query in queries]
        show(f"{what}: exact {(thread_time() - begun) / CALLS * 1e3:.2f} ms a query")
        for expansion in EXPANSIONS:
            graph.expansion_search = expansion
            most = (
                COUNT if mask is None else min(items, round(2 * COUNT / SHARE))
            )  # it has no filter: more are asked for
            begun, found = thread_time(), list[Any]()
            for query in queries:
                keys = graph.search(query, most, threads=1).keys.astype(np.intp)
                found.append(keys[:COUNT] if mask is None else keys[mask[keys]][:COUNT])
            seconds = thread_time() - begun
            recall = np.mean(
                [len(np.intersect1d(one, other)) / COUNT for one, other in zip(wanted, found, strict=True)]
            )
            show(
                f"{what}: usearch, expansion {expansion}: {seconds / CALLS * 1e3:.2f} ms a query, recall@{COUNT} {recall:.3f}"
            )


if __name__ == "__main__":
    main()
