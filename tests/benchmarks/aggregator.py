"""The time of an aggregator on one core, for a batch of 64 users with bags of 32 items and for one user.

python -m tests.benchmarks.aggregator [BUNDLE]
"""

import argparse
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from offline_training.comparison.cost import ITEMS, USERS, milliseconds, state_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", help="folder of the bundle (default: the shipped one)")
    parser.add_argument("--calls", type=int, default=500, help="calls of each size (default 500)")
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    aggregator = bundle.aggregator(threads=1)
    title = f"{bundle.name} {bundle.version}: {state_bytes(bundle.embedding_size)} bytes of state per item"
    table = Table("users", "items per user", "median ms", "p95 ms", title=title)
    for users in (USERS, 1):
        times = milliseconds(aggregator, users, arguments.calls)
        p95 = statistics.quantiles(times, n=20)[18]
        table.add_row(str(users), str(ITEMS), f"{statistics.median(times):.3f}", f"{p95:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
