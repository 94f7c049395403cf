"""Latency from the time of an event to its recommendation under load, and the load that the system sustains.

    python -m tests.benchmarks.load

Events have fixed times. If a slow event delays the next one, the latency of that one still counts from its own time (no
coordinated omission). The benchmark measures the maximum rate of both workers, then the latency at fractions of it, and then finds,
by bisection, the highest rate at which 99 % of the recommendations are on their topic within `--limit` ms. A latency ends when the
broker has the recommendation, by the clock of the broker, in whole milliseconds. Percentiles are those of all values, not of a
histogram. `python -m tests.benchmarks.latency` measures the idle system.
"""

import argparse
import asyncio
import json
import logging
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.results import COLOURS, write
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Running, Stand, check_answers
from tests.benchmarks.throughput.workload import Event, Shop
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import picture_server

WARMING = 2000.0  # events/s of the warm-up
FRACTIONS = (0.1, 0.25, 0.5, 0.7, 0.9)  # of the maximum rate
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not less than this share of the values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


@dataclass(frozen=True)
class Load:
    """The latencies at one rate."""

    rate: float  # events/s
    waits: list[float]  # milliseconds from the time of an event to its recommendation
    late: list[float]  # milliseconds by which the generator was late, included in `waits`

    @property
    def p99(self) -> float:
        return percentile(self.waits, SHARES["p99"])


class Bench:
    """Running workers, and events that are never repeated."""

    def __init__(self, stand: Stand, running: Running) -> None:
        self._stand = stand
        self._running = running
        self._produced = 0

    def _events(self, count: int) -> list[Event]:
        events = self._stand.shop.events(count, f"load-{self._produced}", after=self._produced)
        self._produced += count
        return events

    async def most(self, count: int) -> float:
        """Measure the rate when all events are produced at once, events/s."""
        return (await self._stand.measured(self._running, self._events(count))).rate

    async def at(self, rate: float, seconds: float) -> Load:
        """Measure the latencies at a rate."""
        running, events = self._running, self._events(max(int(rate * seconds), 1))
        topic = running.settings.recommendations_topic
        begin = (await running.ends())[topic]
        times, late = await running.produce_at(events, rate)
        await running.answers(len(events))
        answered = await running.system.read(topic, begin)
        check_answers(events, answered)
        first: dict[str, int] = {}
        for record in answered:
            event_id = json.loads(record.value or b"{}")["event_id"]
            first[event_id] = min(record.timestamp, first.get(event_id, record.timestamp))
        waits = [first[str(event["event_id"])] - due * 1000 for event, due in zip(events, times, strict=True)]
        return Load(rate, waits, [one * 1000 for one in late])


async def run(
    shop: dict[str, int], count: int, *, seconds: float, limit: float, steps: int, console: Console
) -> tuple[float, list[Load], list[Load]]:
    """Measure. Returns the maximum rate, the latencies at fractions of it, and those of the bisection."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        base = stack.enter_context(picture_server(CATALOGUE))
        stand = Stand(broker, folder, Shop(base, **shop), Bundle.load())
        async with stand.running(PEERS["ours"]) as running:
            bench = Bench(stand, running)
            await bench.most(count)  # warm-up
            await bench.at(WARMING, seconds)  # the JIT compiler of the broker is busy for half a minute
            most = await bench.most(count)
            console.print(f"at most {most:,.0f} events/s")
            loads: list[Load] = []
            for fraction in FRACTIONS:
                loads.append(await bench.at(fraction * most, seconds))
                console.print(f"{loads[-1].rate:,.0f} events/s: p99 {loads[-1].p99:,.0f} ms")
            search: list[Load] = []
            sustained = max((load.rate for load in loads if load.p99 <= limit), default=0.0)
            refused = min((load.rate for load in loads if load.p99 > limit and load.rate > sustained), default=most)
            for _ in range(steps):
                search.append(await bench.at((sustained + refused) / 2, seconds))
                console.print(f"search: {search[-1].rate:,.0f} events/s: p99 {search[-1].p99:,.0f} ms")
                if search[-1].p99 <= limit:
                    sustained = search[-1].rate
                else:
                    refused = search[-1].rate
    return most, loads, search


def show(most: float, loads: list[Load], search: list[Load], limit: float) -> None:
    console = Console(width=120)
    title = "milliseconds from the time of an event to its recommendation"
    table = Table("events/s", "of the maximum", "events", *SHARES, "generator late, p99", title=title)
    for load in sorted([*loads, *search], key=lambda one: one.rate):
        table.add_row(
            f"{load.rate:,.0f}",
            f"{load.rate / most:.0%}",
            f"{len(load.waits):,}",
            *(f"{percentile(load.waits, share):,.1f}" for share in SHARES.values()),
            f"{percentile(load.late, SHARES['p99']):.1f}",
        )
    console.print(table)
    sustained = [load.rate for load in [*loads, *search] if load.p99 <= limit]
    found = (
        f"{max(sustained):,.0f} events/s, {max(sustained) / most:.0%} of the maximum"
        if sustained
        else "none of these rates"
    )
    console.print(f"at most {most:,.0f} events/s; p99 within {limit:g} ms up to {found}")


def draw(loads: list[Load], limit: float, figure: Any) -> None:
    """Plot each percentile against the rate."""
    axes = figure.subplots()
    ordered = sorted(loads, key=lambda one: one.rate)
    for (name, share), colour in zip(list(SHARES.items())[:-1], COLOURS, strict=False):
        axes.plot(
            [load.rate for load in ordered],
            [percentile(load.waits, share) for load in ordered],
            "o-", color=colour, label=name, markersize=3,
        )  # fmt: skip
    axes.axhline(limit, color="black", linewidth=0.5)
    axes.set_yscale("log")
    axes.set_xlabel("events/s")
    axes.set_ylabel("ms from the time of an event to its recommendation")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=20_000, help="events to measure the maximum rate with (default 20000)"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds at each rate (default 20)")
    parser.add_argument("--limit", type=float, default=100.0, help="maximum p99 of a sustained rate, ms (default 100)")
    parser.add_argument("--steps", type=int, default=5, help="steps of the bisection (default 5)")
    parser.add_argument(
        "--bag", type=int, default=16, help="items in the bag of each user; as many are scored (default 16)"
    )
    parser.add_argument("--users", type=int, default=500, help="number of users (default 500)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    shop = {"users": arguments.users, "bag": arguments.bag}
    found = asyncio.run(
        run(
            shop,
            arguments.events,
            seconds=arguments.seconds,
            limit=arguments.limit,
            steps=arguments.steps,
            console=Console(stderr=True),
        )
    )
    show(*found, arguments.limit)
    if arguments.out:
        most, loads, search = found
        every = [*loads, *search]
        percentiles = [
            {"rate": load.rate} | {name: percentile(load.waits, share) for name, share in SHARES.items()}
            for load in every
        ]
        figures = {"most": most, "setting": shop, "loads": percentiles}
        write(arguments.out, "load", figures, partial(draw, every, arguments.limit), (8, 4.5))


if __name__ == "__main__":
    main()
