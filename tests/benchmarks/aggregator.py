"""What an aggregator costs: a batch of 64 users with bags of 32, and one user, on one core.

python -m tests.benchmarks.aggregator [BUNDLE]
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from model.aggregator import Aggregator
from model.bundle import Bundle
from model.quantization import HEADER_BYTES

ITEMS = 32


def milliseconds(aggregator: Aggregator, users: int, calls: int) -> list[float]:
    """Of each call, warmed up."""
    chance = np.random.default_rng(0)
    embeddings = chance.random((users, ITEMS, aggregator.embedding_size), np.float32)
    log_prior = np.zeros((users, ITEMS), np.float32)
    times: list[float] = []
    for _ in range(calls + calls // 10):
        begun = time.perf_counter()
        aggregator.score(embeddings, log_prior)
        times.append((time.perf_counter() - begun) * 1000)
    return times[-calls:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="the bundle's folder (default: the one that ships)")
    parser.add_argument("--calls", type=int, default=500, help="calls of each size (default 500)")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    aggregator = bundle.aggregator(threads=1)
    title = f"{bundle.name} {bundle.version}: {bundle.embedding_size + HEADER_BYTES} bytes of state for an item"
    table = Table("users", "items of each", "median ms", "p95 ms", title=title)
    for users in (64, 1):
        times = milliseconds(aggregator, users, arguments.calls)
        p95 = statistics.quantiles(times, n=20)[18]
        table.add_row(str(users), str(ITEMS), f"{statistics.median(times):.3f}", f"{p95:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
