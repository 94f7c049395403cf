"""The processor time of looking for items with the same picture: for all items, for a few new ones, and for a list of the groups.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.twins [--items 100000] [--looked 4000]

Codes are clusters of vectors, as those of a catalogue are. `--looked`: items that are looked at; the time of all follows from it,
because each item takes the same search.
"""

import argparse
from itertools import islice
from time import thread_time

import numpy as np
from rich.console import Console

from model.item_search.index import CodeIndex
from model.item_search.twins import AT_ONCE, SCANNED, Twins
from model.quantization import quantize_all
from tests.benchmarks.item_search import AT_ONCE as MADE
from tests.benchmarks.item_search import KINDS
from tests.usage import resident_mb

COPIES, NEW = 0.02, 1000  # share of items with the picture of another one; new items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="items in the catalogue (default 100,000)")
    parser.add_argument("--size", type=int, default=163, help="numbers in a code (default 163)")
    parser.add_argument("--looked", type=int, default=4000, help="items that are looked at (default 4000)")
    parser.add_argument("--least", type=float, default=0.997, help="cosine of a twin (default 0.997)")
    asked = parser.parse_args()
    items: int = asked.items
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((KINDS, asked.size)).astype(np.float32)
    index, rows = CodeIndex(asked.size), list[bytes]()
    for start in range(0, items, MADE):
        count = min(MADE, items - start)
        values = kinds[rng.integers(0, KINDS, count)] + 0.7 * rng.standard_normal((count, asked.size))
        rows += quantize_all(values.astype(np.float32))
    for place in rng.integers(1, items, round(items * COPIES)).tolist():
        rows[place] = rows[place - 1]
    index.put(np.arange(items), rows)
    show = Console(soft_wrap=True, highlight=False).print
    before, begun = resident_mb(), thread_time()
    twins = Twins(asked.least)
    steps = twins.look(lambda places: index.rows(np.asarray(places)), index.search, lambda: np.ones(items, bool))
    for left in steps:
        if left is not None:
            break
    read = thread_time() - begun
    begun = thread_time()
    looked = sum(1 for _ in islice(steps, asked.looked // AT_ONCE)) * AT_ONCE
    each = (thread_time() - begun) / looked
    begun = thread_time()
    groups = twins.groups()
    listed = thread_time() - begun
    show(
        f"{items:,} items of {asked.size} numbers: {1000 * each:.2f} ms an item, {each * items:.0f} s for all; "
        f"{read:.2f} s to read which are new; {NEW:,} new ones: {read + NEW * each:.1f} s; "
        f"{1000 * listed:.0f} ms for the list of {len(groups):,} groups; {resident_mb() - before:.0f} MB in {SCANNED} at a time"
    )


if __name__ == "__main__":
    main()
