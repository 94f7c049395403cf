"""The time of an exact search for items, and of recommending 12 of them, on one core.

OMP_NUM_THREADS=1 python -m tests.benchmarks.item_search [--items 1000000] [--size 128] [--queries 4] [--bag 16] [--pause 0.02]

Codes are clusters of vectors, as those of a catalogue are. `elapsed` is what a caller waits, `processor` what the thread computes: on
a busy machine they differ. After a pause the caches of the processor are cold.
"""

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter, sleep, thread_time

import numpy as np
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from model.item_search.index import CodeIndex
from model.item_search.ranking import Options, Taste, recommend_items
from model.quantization import dequantize, quantize_all

KINDS, AT_ONCE = 500, 50_000


def timed(calls: int, pause: float, call: Callable[[int], object]) -> list[str]:
    """The p50 and p99 of the elapsed and of the processor time, milliseconds. pause: seconds before each call."""
    found = np.empty((calls, 2))
    for number in range(calls):
        sleep(pause)
        began = perf_counter(), thread_time()
        call(number)
        found[number] = perf_counter() - began[0], thread_time() - began[1]
    return [f"{1000 * value:.1f}" for value in np.percentile(found, [50, 99], axis=0).T.ravel()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="items in the catalogue (default 1,000,000)")
    parser.add_argument("--size", type=int, default=128, help="numbers in a code (default 128)")
    parser.add_argument("--queries", type=int, default=4, help="queries of one search, or interests (default 4)")
    parser.add_argument("--bag", type=int, default=16, help="items in a bag (default 16)")
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind (default 100)")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each call (default 0)")
    parser.add_argument("--labels", action="store_true", help="count 492 categories of the candidates, too")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((KINDS, asked.size)).astype(np.float32)
    index, rows = CodeIndex(asked.size), list[bytes]()
    for start in range(0, asked.items, AT_ONCE):
        count = min(AT_ONCE, asked.items - start)
        values = kinds[rng.integers(0, KINDS, count)] + 0.7 * rng.standard_normal((count, asked.size))
        rows += quantize_all(values.astype(np.float32))
        index.put(np.arange(start, start + count), rows[start:])
    queries = kinds[rng.integers(0, KINDS, (asked.calls, asked.queries))]
    bags = [dequantize([rows[place] for place in rng.integers(0, asked.items, asked.bag)], asked.size) for _ in queries]
    popularity = rng.pareto(1, asked.items).astype(np.float32)
    attention = np.full(asked.bag, 1 / asked.bag, np.float32)
    everything, few = np.ones(asked.items, bool), rng.random(asked.items) < 0.05
    layer = rng.standard_normal((asked.size, 492)).astype(np.float32)
    scores = rng.random(492).astype(np.float32)

    def shares(of: Sequence[bytes]) -> np.ndarray:
        return (100 / (1 + np.exp(-dequantize(of, asked.size) @ layer))).astype(np.int64)

    def recommend(number: int) -> object:
        return recommend_items(
            Taste(bags[number], attention, scores),
            nearest=index.search,
            codes=lambda places: [rows[place] for place in places],
            shares=shares if asked.labels else None,
            popularity=popularity,
            mask=everything,
            weights=ranking,
            options=Options(interests=asked.queries, diversity=0.3),
        )

    ranking = Bundle.load().ranking()
    title = f"{asked.items:,} items of {asked.size} numbers, {asked.queries} queries, bags of {asked.bag}; milliseconds"
    table = Table("", "elapsed p50", "p99", "processor p50", "p99", title=title)
    calls: dict[str, Callable[[int], object]] = {
        "search, 12 each": lambda number: index.search(queries[number], 12),
        "search, 100 each": lambda number: index.search(queries[number], 100),
        "search among 5 %, 100 each": lambda number: index.search(queries[number], 100, few),
        "recommend 12": recommend,
    }
    for name, call in calls.items():
        call(0)
        table.add_row(name, *timed(asked.calls, asked.pause, call))
    Console().print(table)


if __name__ == "__main__":
    main()
