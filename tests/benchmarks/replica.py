"""What a serve worker beside them costs the workers that process events: events/s, and processor time of an event.

    python -m tests.benchmarks.replica

It runs both workers alone and with a serve worker, in turns, on one broker. A machine whose processors are all busy shows the
processor time of the replica as fewer events/s: it has none to spare.
"""

import argparse
import asyncio
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.results import in_turn
from tests.benchmarks.throughput.peers import PEERS, WORKERS
from tests.benchmarks.throughput.stand import Outcome, Stand
from tests.benchmarks.throughput.workload import Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server

ALONE, BESIDE = "alone", "with a replica"


async def measured(broker: KafkaBroker, folder: Path, events: int, rounds: int) -> dict[str, list[Outcome]]:
    """The outcomes of each round, without and with a serve worker."""
    peers = {ALONE: PEERS["ours"], BESIDE: replace(PEERS["ours"], name="beside", kinds=(*WORKERS, "serve"))}
    found: dict[str, list[Outcome]] = {name: [] for name in peers}
    with picture_server(CATALOGUE) as base:
        stand = Stand(broker, folder, Shop(base, users=100), Bundle.load())
        for _ in range(rounds):
            for name, peer in peers.items():
                found[name].append(await stand.round(peer, events))
    return found


def written(outcome: Outcome) -> float:
    """Processor milliseconds of an event on its way to the recommendation: both workers and the broker."""
    return sum(outcome.processor[kind] for kind in WORKERS) + outcome.broker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5000, help="events of each round (default 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        found = asyncio.run(measured(broker, folder, arguments.events, arguments.rounds))
    table = Table("", "events/s", "ms an event: workers and broker", "serve", title="medians")
    for name, outcomes in found.items():
        serve = [one.processor.get("serve", 0.0) for one in outcomes]
        figures = [
            f"{statistics.median(one.rate for one in outcomes):,.0f}",
            f"{statistics.median(map(written, outcomes)):.3f}",
            f"{statistics.median(serve):.3f}",
        ]
        table.add_row(name, *figures)
    console = Console(width=100)
    console.print(table)
    pairs = list(zip(found[ALONE], found[BESIDE], strict=True))
    for what, ratios in {
        "processor time of workers and broker": [written(two) / written(one) for one, two in pairs],
        "events/s": [two.rate / one.rate for one, two in pairs],
    }.items():
        console.print(in_turn(f"{what}, with / alone", ratios))


if __name__ == "__main__":
    main()
