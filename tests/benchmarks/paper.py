"""Replays a stream as large as the data of the paper through Kafka and both workers: time, memory, disk, and lost events.

    python -m tests.benchmarks.paper DATA --check

DATA is a folder with the data sets `clothing` and `grocery`, whose pictures the items use. The Amazon data of the paper has 547,700
events of 66,519 users on 28,237 items. Here the popularity of items follows Zipf's law, the number of events per user is log-normal,
four of five events are in one of three favourite categories of the user, and timestamps are days of ten years. `--check` computes
every answer again from the events alone.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from offline_training.embedders.training_data.pictures import LabelledPicture, read_clothing, read_grocery
from streams.settings.names import BAGS_CHANGELOG
from tests.data import DATA
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, stop
from tests.offline_training.replay.made import DAY, START, Row, write
from tests.usage import MB, peak_resident_mb, processor_seconds

EVENTS, USERS, ITEMS = 547_700, 66_519, 28_237
DAYS = 3650
FAVOURITES, FAITHFUL = 3, 0.8
SPREAD = 0.9
"""Standard deviation of the logarithm of the number of events per user."""


def made(folder: Path, pictures: list[LabelledPicture], events: int, users: int, items: int) -> Path:
    """Write a prepared data set of this size. The same arguments give the same data set."""
    chance = np.random.default_rng(0)
    shown = [pictures[number] for number in np.resize(chance.permutation(len(pictures)), items)]
    names = sorted({picture.category for picture in shown})
    category = np.array([names.index(picture.category) for picture in shown])  # [items]
    popularity = 1 / np.arange(1, items + 1)
    within = [np.flatnonzero(category == number) for number in range(len(names))]
    weight = np.array([popularity[rows].sum() for rows in within])
    who = np.repeat(np.arange(users), _activity(chance, events, users))
    favourites = np.stack([chance.choice(len(names), users, p=weight / weight.sum()) for _ in range(FAVOURITES)], 1)
    what = _drawn(chance, popularity, events)
    wanted = favourites[who, chance.integers(FAVOURITES, size=events)]
    wanted[chance.random(events) > FAITHFUL] = -1
    for number, rows in enumerate(within):
        chosen = np.flatnonzero(wanted == number)
        what[chosen] = rows[_drawn(chance, popularity[rows], len(chosen))]
    when = START - chance.integers(DAYS, size=events) * DAY
    order = np.argsort(when, kind="stable")
    rows: Iterable[Row] = ((f"u{who[i]}", f"i{what[i]}", "purchase", int(when[i])) for i in order)
    return write(
        folder, rows, {f"i{number}": (str(picture.path), [picture.category]) for number, picture in enumerate(shown)}
    )


def _activity(chance: np.random.Generator, events: int, users: int) -> NDArray[np.int64]:
    """Number of events per user, int64 [users]: log-normal, at least 1, `events` in total."""
    shares = chance.lognormal(sigma=SPREAD, size=users)
    counts = 1 + np.floor(shares / shares.sum() * (events - users)).astype(np.int64)
    counts[np.argsort(-shares)[: events - counts.sum()]] += 1
    return counts


def _drawn(chance: np.random.Generator, weights: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.searchsorted(np.cumsum(weights), chance.random(count) * weights.sum(), side="right")


async def _changelog_bytes(system: System) -> float:
    """Estimated bytes of all rows ever written: their number times the mean size of the rows left by compaction."""
    records = await system.read(BAGS_CHANGELOG)
    sizes = [len(record.key or b"") + len(record.value or b"") for record in records]
    return sum((await system.ends(BAGS_CHANGELOG)).values()) * sum(sizes) / len(sizes)


def _folder_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MB


def run(data: Path, events: int, users: int, items: int, *, lead: int, check: bool, out: Path | None) -> int:
    """Measure, and print a table. Returns the exit code of the replay."""
    console = Console(width=120)
    pictures = [*read_clothing(data / "clothing"), *read_grocery(data / "grocery")]
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        folder = made(Path(temporary) / "set", pictures, events, users, items)
        system = System(broker, Path(temporary))
        system.configure(commit_interval=1.0)
        assert system.command("topics").returncode == 0
        results = out or Path(temporary) / "run"
        workers = {kind: system.launch(kind) for kind in ("embed", "profile")}
        try:
            for kind, process in workers.items():
                system.wait_ready(kind, process)
            begun = time.monotonic()
            replay = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streams", "replay", str(folder), "--out", str(results)),
                    *("--lead", str(lead), *(["--check"] if check else [])),
                ],
                env=system.environment,
            )
            watched = {**{f"{kind} worker": process.pid for kind, process in workers.items()}, "replay": replay.pid}
            watched["broker"] = broker.pid
            peaks: dict[str, float] = {}
            used: dict[str, float] = {}
            while replay.poll() is None:
                for name, pid in watched.items():
                    peaks[name], used[name] = peak_resident_mb(pid), processor_seconds(pid)
                with_timeout(replay, 1.0)
            wall = time.monotonic() - begun
            asyncio.run(system.settled())
            counted = system.get("embed", "/metrics")[1]
        finally:
            for process in workers.values():
                stop(process)
        written = asyncio.run(_changelog_bytes(system))
        told = json.loads((results / "results.json").read_text())
        played = told["played"]
        table = Table("what", "how much", title=f"{events:,} events, {users:,} users, {items:,} items")
        table.add_row("answered", f"{played['answered']:,} of {played['events']:,}")
        table.add_row("played in", f"{played['seconds']:,.0f} s, {played['events'] / played['seconds']:,.0f} events/s")
        table.add_row("including reading, measuring and checking", f"{wall:,.0f} s")
        table.add_row("pictures embedded", f"{_computed(counted):,}")
        for name, peak in peaks.items():
            table.add_row(name, f"at most {peak:,.0f} MB, {used[name]:,.0f} s of processor time")
        data_folder = system.folder / "data"
        table.add_row("bags on disk", f"{_folder_mb(data_folder / 'profile'):,.0f} MB")
        table.add_row("embedding cache on disk", f"{_folder_mb(data_folder / 'embed'):,.0f} MB")
        table.add_row("changelog", f"{written / events:,.0f} bytes per event")
        console.print(table)
        return replay.returncode


def with_timeout(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until the process ends, at most for some seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _computed(metrics: str) -> int:
    line = next(line for line in metrics.splitlines() if line.startswith('tastestream_pictures_total{where="fetch"}'))
    return math.floor(float(line.split()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=DATA, help="folder with `clothing` and `grocery`")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"number of events (default {EVENTS})")
    parser.add_argument("--users", type=int, default=USERS, help=f"number of users (default {USERS})")
    parser.add_argument("--items", type=int, default=ITEMS, help=f"number of items (default {ITEMS})")
    parser.add_argument("--lead", type=int, default=4000, help="maximum number of unanswered events (default 4000)")
    parser.add_argument("--check", action="store_true", help="compute all answers again from the events alone")
    parser.add_argument("--out", type=Path, help="folder for the results of the replay")
    arguments = parser.parse_args()
    if missing := [name for name in ("clothing", "grocery") if not (arguments.data / name).is_dir()]:
        parser.exit(message=f"skipped: {arguments.data} has no {' and no '.join(missing)}\n")
    sys.exit(
        run(
            arguments.data, arguments.events, arguments.users, arguments.items,
            lead=arguments.lead, check=arguments.check, out=arguments.out,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
