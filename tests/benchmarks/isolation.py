"""Rate and latency of pictures from good hosts while other hosts hang, fail or drip, compared with the good hosts alone.

    python -m tests.benchmarks.isolation

Each measurement has 100 new hosts: 20 never answer, 10 answer 503, 5 send a byte per second, and 65 are good. `alone` has events of
good hosts only; `among bad ones` adds events of the other hosts between them. Each round measures both: the rate with all events
produced at once, then the latency from produce to recommendation with a steady stream.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from rich.console import Console
from rich.table import Table

from tests.data import photos
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import Record, System
from tests.streams.web.servers import Handler, serving

GOOD, HANGING, FAILING, DRIPPING = 65, 20, 10, 5  # hosts
INPUT, OUTPUT, LETTERS = "user-interactions", "user-recommendations", "user-interactions-dlq"
FOR_EVER = 3600.0  # seconds; longer than any measurement


async def hangs(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(FOR_EVER)
    raise AssertionError("no client waits for so long")


async def fails(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=503)


async def drips(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):  # the client is gone
        while True:
            await response.write(b"x")
            await asyncio.sleep(1)
    return response


class Measured(NamedTuple):
    """Figures of the events of good hosts."""

    rate: float  # events/s, when all are produced at once
    waits: list[float]  # milliseconds from produce to recommendation, in the steady stream


class Bench:
    """A broker, both workers, and picture hosts that are new in each measurement."""

    def __init__(self, system: System, seed: int) -> None:
        self.system = system
        self.letters: Counter[str] = Counter()  # by reason
        self._random = random.Random(seed)
        self._files = [path.read_bytes() for path in sorted(photos().glob("*.jpg"))]
        self._number = 0

    async def good(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=self._files[int(request.query["n"]) % len(self._files)], content_type="image/jpeg")

    async def events(self, count: int, hosts: AsyncExitStack, *, bad: bool) -> list[dict[str, object]]:
        """`count` events of good hosts, and a share of events of bad hosts in proportion to their number, shuffled."""
        kinds: dict[str, tuple[Handler, int]] = {"good": (self.good, GOOD)}
        if bad:
            kinds |= {"hanging": (hangs, HANGING), "failing": (fails, FAILING), "dripping": (drips, DRIPPING)}
        events: list[dict[str, object]] = []
        for kind, (handler, number) in kinds.items():
            bases = [await hosts.enter_async_context(serving(handler)) for _ in range(number)]
            for turn in range(count * number // GOOD):
                self._number += 1
                url = f"{bases[turn % number]}/?n={self._number}"
                event = {"event_id": f"{kind}-{self._number}", "user_id": f"user-{self._number % 100}"}
                events.append({**event, "item_id": url, "type": "view", "image_url": url})
        self._random.shuffle(events)
        return events

    async def at_once(self, count: int, *, bad: bool) -> float:
        """Measure the rate of good events, events/s."""
        async with AsyncExitStack() as hosts:
            times = await self._through(await self.events(count, hosts, bad=bad), rate=math.inf)
        first = min(produced for produced, _ in times)
        return count / (max(answered for _, answered in times) - first) * 1000

    async def steady(self, count: int, rate: float, *, bad: bool) -> list[float]:
        """Measure the milliseconds of each good event. rate: of good events, events/s, whatever the answers take."""
        async with AsyncExitStack() as hosts:
            events = await self.events(count, hosts, bad=bad)
            times = await self._through(events, rate=rate * len(events) / count)
        return [answered - produced for produced, answered in times]

    async def _through(self, events: list[dict[str, object]], rate: float) -> list[tuple[int, int]]:
        """The times at which each good event was produced and answered, milliseconds."""
        begin = {topic: await self.system.ends(topic) for topic in (INPUT, OUTPUT, LETTERS)}
        now = int(time.time() * 1000)
        await self.system.produce((event | {"timestamp": now} for event in events), rate=rate)
        await self.system.settled(pause=1.0)
        read = {topic: await self.system.read(topic, since) for topic, since in begin.items()}
        letters = Counter(letter.headers["tastestream-reason"] for letter in read[LETTERS])
        self.letters += letters
        produced, answered = ({event_id(one): one.timestamp for one in read[topic]} for topic in (INPUT, OUTPUT))
        good = {name for name in produced if name.startswith("good")}
        if answered.keys() != good or letters.total() != len(events) - len(good):
            raise SystemExit(f"{len(good)} good events, {len(answered)} recommendations, dead letters: {dict(letters)}")
        return [(produced[name], answered[name]) for name in good]


def event_id(record: Record) -> str:
    return json.loads(record.value or b"{}")["event_id"]


async def run(count: int, rate: float, rounds: int) -> tuple[dict[bool, list[Measured]], Counter[str]]:
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary))
        system.configure(commit_interval=1.0)
        with system.worker("all"):
            bench = Bench(system, seed=1)
            await bench.at_once(200, bad=False)  # warm-up
            measured: dict[bool, list[Measured]] = {False: [], True: []}
            for _ in range(rounds):
                for bad, found in measured.items():
                    at_once = await bench.at_once(count, bad=bad)
                    found.append(Measured(at_once, await bench.steady(count, rate, bad=bad)))
    return measured, bench.letters


def show(measured: dict[bool, list[Measured]], letters: Counter[str], count: int, rate: float) -> None:
    console = Console(width=120)
    title = f"events of good hosts: {count:,} at once, then {rate:g}/s"
    table = Table("good hosts", "events/s, median", "each round", "p50 ms", "p99 ms", "p99 of each round", title=title)
    p99: dict[bool, list[float]] = {}
    for bad, found in measured.items():
        rates = [one.rate for one in found]
        cuts = statistics.quantiles([wait for one in found for wait in one.waits], n=100)
        p99[bad] = [statistics.quantiles(one.waits, n=100)[98] for one in found]
        table.add_row(
            "among bad ones" if bad else "alone",
            f"{statistics.median(rates):,.0f}",
            ", ".join(f"{one:,.0f}" for one in rates),
            f"{cuts[49]:.0f}",
            f"{cuts[98]:.0f}",
            ", ".join(f"{one:.0f}" for one in p99[bad]),
        )
    console.print(table)
    kept = [among.rate / alone.rate for alone, among in zip(*measured.values(), strict=True)]
    slower = [among / alone for alone, among in zip(*p99.values(), strict=True)]
    console.print(f"among bad ones / alone, round by round: events/s {shown(kept)}; p99 {shown(slower)}")
    console.print(f"dead letters: {', '.join(f'{reason} {count:,}' for reason, count in letters.most_common())}")


def shown(ratios: list[float]) -> str:
    return f"{', '.join(f'{one:.2f}' for one in ratios)} (median {statistics.median(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1300, help="events of good hosts per measurement (default 1300)")
    parser.add_argument(
        "--rate", type=float, default=60.0, help="events/s of good hosts in the steady stream (default 60)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    arguments = parser.parse_args()
    measured, letters = asyncio.run(run(arguments.count, arguments.rate, arguments.rounds))
    show(measured, letters, arguments.count, arguments.rate)


if __name__ == "__main__":
    main()
