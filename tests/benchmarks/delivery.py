"""The cost of waiting for the broker's acknowledgement: the workers as they are, compared with workers that do not wait.

    python -m tests.benchmarks.delivery

Each round produces a backlog of events with cached pictures, and starts one embed and one profile worker. The rate is computed
from the times of the first and the last recommendation. Both variants alternate on the same broker.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.demo.catalogue import CATALOGUE
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, picture_server, stop
from tests.kafka.test_under_load import events
from tests.usage import processor_seconds

OUTPUT = "user-recommendations"
VARIANTS = {"as it is": (), "without waiting": ("break-do-not-wait",)}


@contextmanager
def workers(system: System, points: tuple[str, ...]) -> Generator[list[subprocess.Popen[bytes]]]:
    """Run one embed and one profile worker with these fault points."""
    with (system.folder / "worker.log").open("ab") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.armed", *points, "--", "worker", kind],
                env=system.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for kind in system.ports
        ]
    try:
        yield running
    finally:
        for process in running:
            stop(process)


async def measure(system: System, points: tuple[str, ...], backlog: list[dict[str, object]]) -> tuple[float, float]:
    """Events/s, and processor milliseconds per event, of both workers together."""
    await system.produce(backlog)
    begin = await system.ends(OUTPUT)
    with workers(system, points) as running:
        for kind in system.ports:
            system.wait_ready(kind)
        before = sum(processor_seconds(process.pid) for process in running)
        await system.settled(pause=1.0)
        used = sum(processor_seconds(process.pid) for process in running) - before
    times = [record.timestamp for record in await system.read(OUTPUT, begin)]
    return len(times) / (max(times) - min(times)) * 1000, used / len(times) * 1000


async def run(count: int, rounds: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    used: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary), profile_batch=256)
        system.configure(commit_interval=1.0)
        assert system.command("topics").returncode == 0
        with picture_server(CATALOGUE) as pictures:
            await measure(system, (), events(pictures, 500, "warm"))
            for number in range(rounds):
                for name, points in VARIANTS.items():
                    backlog = events(pictures, count, f"{name}-{number}")
                    rate, milliseconds = await measure(system, points, backlog)
                    rates[name].append(rate)
                    used[name].append(milliseconds)
    table = Table("workers", "events/s, median", "each round", "processor ms per event, median", title="delivery")
    for name, found in rates.items():
        shown = ", ".join(f"{rate:,.0f}" for rate in found)
        table.add_row(name, f"{statistics.median(found):,.0f}", shown, f"{statistics.median(used[name]):.2f}")
    console = Console(width=120)
    console.print(table)
    ratios = [safe / unsafe for safe, unsafe in zip(*rates.values(), strict=True)]
    console.print(
        f"as it is / without waiting, round by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
        f"median {statistics.median(ratios):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40_000, help="events in a round (default 40000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the variants alternate (default 5)")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.count, arguments.rounds))


if __name__ == "__main__":
    main()
