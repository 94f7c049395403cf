"""What a bundle that is prepared costs an event: processor time of the workers, and bytes on the changelog.

    python -m tests.benchmarks.next_bundle

It runs both workers with BUNDLE alone, and with a NEXT_BUNDLE of the same backbone and another item network, in turns.
"""

import argparse
import asyncio
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.results import in_turn
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Outcome, Stand
from tests.benchmarks.throughput.workload import Shop
from tests.bundles import write_sibling
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server


async def measured(broker: KafkaBroker, folder: Path, events: int, rounds: int) -> dict[str, list[Outcome]]:
    """The outcomes of each round, without and with a next bundle."""
    sibling = write_sibling(folder / "sibling")
    found: dict[str, list[Outcome]] = {"BUNDLE alone": [], "with NEXT_BUNDLE": []}
    with picture_server(CATALOGUE) as base:
        stands: list[Stand] = []
        for name, settings in zip(found, ({}, {"next_bundle": sibling}), strict=True):
            inside = folder / name.replace(" ", "-")
            inside.mkdir()
            stands.append(Stand(broker, inside, Shop(base, users=100), Bundle.load(), **settings))
        for _ in range(rounds):
            for outcomes, stand in zip(found.values(), stands, strict=True):
                outcomes.append(await stand.round(PEERS["ours"], events))
    return found


def ratios(found: dict[str, list[Outcome]]) -> list[float]:
    """Processor time with a next bundle, divided by that without, round by round."""
    alone, both = found.values()
    return [two.used / one.used for one, two in zip(alone, both, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5000, help="events of each round (default 5000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        found = asyncio.run(measured(broker, folder, arguments.events, arguments.rounds))
    table = Table("", "ms an event, embed", "profile", "bytes on the changelog", "events/s", title="medians")
    for name, outcomes in found.items():
        figures = [
            *(f"{statistics.median(one.processor[kind] for one in outcomes):.3f}" for kind in ("embed", "profile")),
            f"{statistics.median(one.changelog for one in outcomes):,.0f}",
            f"{statistics.median(one.rate for one in outcomes):,.0f}",
        ]
        table.add_row(name, *figures)
    console = Console(width=120)
    console.print(table)
    console.print(in_turn("processor time with / without", ratios(found)))


if __name__ == "__main__":
    main()
