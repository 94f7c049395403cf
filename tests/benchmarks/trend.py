"""What the trend costs: processor time of an event, of a snapshot, and of counting all bags after an assignment. Without Kafka.

    python -m tests.benchmarks.trend
    python -m tests.benchmarks.trend --bundle FOLDER --batch 1

It folds, scores and writes events as the profile worker does, in a database of its own.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter, process_time

import numpy as np
from rich.console import Console

from model.bundle import Bundle
from model.quantization import quantize
from streams.bundles import Bundles
from streams.messages import EmbeddedInteraction
from streams.profile.batch import Profile, outcome_of
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from streams.trend.snapshots import decode_snapshot, encode_snapshot, snapshot_of, sum_of
from streams.trend.trend import DAY
from tests.bundles import write_trending

USERS, ITEMS = 500, 5000  # bags of up to 40 items
START = 1_700_000_000_000
PARTITIONS = 8  # whose snapshots a worker sums up


class Clock:
    """Processor time by what it was spent on, seconds."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._since = process_time()

    def lap(self, what: str) -> None:
        now = process_time()
        self.spent[what] = self.spent.get(what, 0.0) + now - self._since
        self._since = now


def events(bundle: Bundle, count: int) -> Iterator[EmbeddedInteraction]:
    """Events of some users over four weeks."""
    random = Random(1)
    numbers = np.random.default_rng(2).normal(size=(ITEMS, bundle.embedding_size)).astype(np.float32)
    codes = [quantize(row) for row in numbers]
    for number in range(count):
        item = random.randrange(ITEMS)
        yield EmbeddedInteraction(
            event_id=f"event-{number}", user_id=f"user-{random.randrange(USERS)}", item_id=f"item-{item}",
            type=random.choice(["view", "cart", "purchase"]), timestamp=START + number * 28 * DAY // count,
            image_url=f"https://shop.example/{item}.jpg", embedder_version=bundle.embedder_version, embedding=codes[item],
        )  # fmt: skip


def play(worker: ProfileWorker, given: list[EmbeddedInteraction], batch: int) -> Clock:
    """Fold, score and write events in batches, and count them."""
    clock = Clock()
    for start in range(0, len(given), batch):
        profiles: dict[str, Profile] = {}
        pairs: list[tuple[EmbeddedInteraction, Profile]] = []
        for event in given[start : start + batch]:
            profile = profiles.get(event.user_id)
            if profile is None:
                profile = profiles[event.user_id] = worker._load(0, event.user_id)
            pairs.append((event, profile))
        clock.lap("load")
        recommender = worker._recommender
        outcome = outcome_of(
            pairs, {0: profiles}, recommender, None, max_slots=128, kept=worker._row_bytes,
            now=datetime.now(UTC), trend=worker.trend.of(recommender.bundle),
        )  # fmt: skip
        clock.lap("fold, score and encode")
        for partition, write in outcome.writes.items():
            worker.table.data.write(partition, write.rows, start)
            clock.lap("write")
            for user, bag in write.bags.items():
                worker.table._recent.put(partition, user, bag)
            clock.lap("load")
            worker.trend.written(partition, write.before, write.bags)
            clock.lap("count")
    worker.trend._counted[0].counts.rows()
    clock.lap("count")
    return clock


async def scanned(worker: ProfileWorker) -> float:
    """Seconds in which all bags are counted."""
    worker.trend.opened(0)
    begun = perf_counter()
    await worker.trend._scan_partition(0, worker.trend._counted[0])
    return perf_counter() - begun


def snapshot_times(bundle: Bundle) -> tuple[int, float, float]:
    """Bytes of a snapshot of a busy shop, milliseconds to make it, and to read it and sum up all partitions."""
    random = np.random.default_rng(3)
    rows = {day: random.integers(0, 10**6, len(bundle.categories)) for day in range(400)}
    value, begun = b"", process_time()
    for _ in range(20):
        value = encode_snapshot(snapshot_of(bundle.labels_version, len(bundle.categories), rows))
    made = process_time()
    for _ in range(20):
        snapshots = dict.fromkeys(range(PARTITIONS), decode_snapshot(value))
        sum_of(snapshots, version=1, labels=bundle.labels_version, categories=len(bundle.categories))
    return len(value), (made - begun) / 20 * 1000, (process_time() - made) / 20 * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="events (default 20000)")
    parser.add_argument("--batch", type=int, default=64, help="events of a batch (default 64)")
    parser.add_argument("--bundle", type=Path, help="a bundle with labels (default: one for tests)")
    arguments = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.load(arguments.bundle or write_trending(Path(folder) / "bundle"))
        worker = ProfileWorker(Settings.model_construct(), Bundles(bundle), Path(folder) / "data", partitions=1)
        worker.table.data.open(0)
        asyncio.run(scanned(worker))
        clock = play(worker, list(events(bundle, arguments.events)), arguments.batch)
        for what, seconds in clock.spent.items():
            console.print(f"{what}: {1000 * seconds / arguments.events:.4f} ms of processor time for an event")
        others = sum(seconds for what, seconds in clock.spent.items() if what != "count")
        share = clock.spent["count"] / clock.spent["fold, score and encode"]
        console.print(
            f"counting is {share:.1%} of folding, scoring and encoding, and {clock.spent['count'] / others:.1%} of all of it"
        )
        rows = len(worker.table.data.users_after(0, b"", 10**9))
        seconds = asyncio.run(scanned(worker))
        console.print(f"counted {rows:,} rows in {seconds:.1f} s: {rows / seconds:,.0f} rows/s")
    size, made, read = snapshot_times(bundle)
    console.print(
        f"a snapshot with {len(bundle.categories)} categories: {size:,} bytes, {made:.1f} ms to make, {read:.1f} ms to read and sum up"
    )


if __name__ == "__main__":
    main()
