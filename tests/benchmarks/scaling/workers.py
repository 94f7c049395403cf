"""Events/s and processor time per event, with 1, 2 and 4 workers of each kind.

    python -m tests.benchmarks.scaling.workers --out runs/workers

One kind of worker runs at a time, on events that are produced as fast as the broker accepts them: embed workers with cached pictures
and with new ones, profile workers with embedded interactions. Broker, load and workers share this machine. With few processors, the
rates show where it is saturated, and the processor time shows the cost of another worker.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from streams.messages import PICTURED, encode_embedded, parse_interaction, with_embedding
from tests.benchmarks.results import COLOURS, write
from tests.benchmarks.scaling.alone import Keyed, Work, alone
from tests.benchmarks.throughput.peers import fill_cache
from tests.benchmarks.throughput.report import spread
from tests.benchmarks.throughput.stand import record_of, settings_of
from tests.benchmarks.throughput.workload import Event, Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, picture_server

WARMING = 4000  # events of the warm-up


@dataclass(frozen=True)
class Contest:
    """One kind of worker on one kind of event."""

    name: str
    kind: str
    cached: float
    """Share of cached pictures."""
    share: float
    """Share of the events of a round: slow contests get fewer."""


CONTESTS = (
    Contest("profile", "profile", 1.0, 1.0),
    Contest("embed, pictures known", "embed", 1.0, 1.0),
    Contest("embed, pictures new", "embed", 0.0, 0.1),
)


class Bench:
    """A broker, a shop, and the embeddings of its pictures."""

    def __init__(self, broker: KafkaBroker, folder: Path, shop: Shop) -> None:
        self._broker = broker
        self._folder = folder
        self._shop = shop
        self._bundle = Bundle.load()
        self._embeddings = shop.embeddings(self._bundle)
        self._number = 0

    async def round(self, contest: Contest, workers: int, count: int) -> Work:
        self._number += 1
        shop = replace(self._shop, cached=contest.cached)
        encode = self._embedded if contest.kind == "profile" else record_of
        warming = [*shop.filling("filling"), *shop.events(int(WARMING * contest.share), "warming")]
        folder = self._folder / f"round-{self._number}"
        settings = {"bag_size": shop.bag, "max_slots": 2 * shop.bag}
        async with alone(self._broker, folder, contest.kind, workers, prepare=self._known, **settings) as running:
            await running.through(_encoded(encode, warming))
            return await running.through(_encoded(encode, shop.events(int(count * contest.share), "measured")))

    async def _known(self, system: System) -> None:
        """Put the pictures of the shop into the cache of the embed worker."""
        fill_cache(settings_of(system), self._bundle, self._shop)

    def _embedded(self, event: Event) -> Keyed:
        """The event as the embed worker publishes it."""
        key, value = record_of(event)
        interaction = parse_interaction(value, now=0.0, max_future=float("inf"))
        embedding = self._embeddings[interaction.image_url] if interaction.type in PICTURED else b""
        return key, encode_embedded(with_embedding(interaction, self._bundle.embedder_version, embedding))


def _encoded(encode: Callable[[Event], Keyed], events: Sequence[Event]) -> list[Keyed]:
    return [encode(event) for event in events]


async def run(
    shop: dict[str, int], count: int, rounds: int, numbers: list[int], console: Console
) -> dict[tuple[str, int], list[Work]]:
    """Measure. Returns the figures by contest and number of workers."""
    measured: dict[tuple[str, int], list[Work]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        base = stack.enter_context(picture_server(CATALOGUE))
        bench = Bench(broker, folder, Shop(base, **shop))
        await bench.round(CONTESTS[0], 1, count)  # warm-up: the broker is slow at first
        for turn in range(rounds):
            for contest in CONTESTS:
                for number in numbers if turn % 2 == 0 else reversed(numbers):
                    work = await bench.round(contest, number, count)
                    measured.setdefault((contest.name, number), []).append(work)
                    console.print(
                        f"round {turn + 1}: {number} x {contest.name}: {work.rate:,.0f} events/s, {work.used:.3f} ms"
                    )
    return measured


def show(measured: dict[tuple[str, int], list[Work]]) -> None:
    table = Table(
        "workers", "number", "events/s (lowest to highest)", "processor ms per event, all workers", "broker, ms",
        "MB resident, largest worker", title="workers of one kind alone, medians",
    )  # fmt: skip
    for (name, number), works in sorted(measured.items()):
        table.add_row(
            name,
            str(number),
            spread([work.rate for work in works]),
            spread([work.used for work in works], 2),
            spread([work.broker for work in works], 2),
            f"{max(work.resident for work in works):.0f}",
        )
    Console(width=140).print(table)


def draw(measured: dict[tuple[str, int], list[Work]], figure: Any) -> None:
    """Plot rates on the left, processor time on the right."""
    axes: Any = figure.subplots(1, 2)
    for contest, colour in zip(CONTESTS, COLOURS, strict=False):
        numbers = sorted(number for name, number in measured if name == contest.name)
        for one, what in zip(axes, ("rate", "used"), strict=True):
            medians = [
                statistics.median(getattr(work, what) for work in measured[contest.name, number]) for number in numbers
            ]
            one.plot(numbers, medians, "o-", color=colour, label=contest.name)
    for one, label in zip(axes, ("events/s", "processor ms per event, all workers"), strict=True):
        one.set_yscale("log")
        one.set_xlabel("workers")
        one.set_ylabel(label)
    axes[0].legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=20_000, help="events per round; a tenth for new pictures (default 20000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each number of workers (default 3)")
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers, separated by commas (default 1,2,4)")
    parser.add_argument(
        "--bag", type=int, default=16, help="items in the bag of each user; as many are scored (default 16)"
    )
    parser.add_argument("--users", type=int, default=500, help="number of users (default 500)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    numbers = [int(number) for number in arguments.workers.split(",")]
    shop = {"users": arguments.users, "bag": arguments.bag}
    measured = asyncio.run(run(shop, arguments.events, arguments.rounds, numbers, Console(stderr=True)))
    show(measured)
    if arguments.out:
        figures = [
            {"workers": name, "number": number, "rounds": [asdict(work) for work in works]}
            for (name, number), works in measured.items()
        ]
        write(arguments.out, "workers", {"setting": shop, "measured": figures}, partial(draw, measured), (10, 4))


if __name__ == "__main__":
    main()
