"""The cost of users in the state: recovery from the changelog topic, disk, memory, and the rate afterwards.

    python -m tests.benchmarks.scaling.users --out runs/users
    python -m tests.benchmarks.scaling.users --users 20000 --items 10 --rounds 3

For each number of users, the rows of their bags are written to the changelog topic. A profile worker starts with an empty data
folder, and its recovery is measured. Then it processes events of random users. With many users, nearly all of these are users that
it has not seen since its start.
"""

import argparse
import asyncio
import logging
import random
import re
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.bundle import Bundle
from streams.messages import EmbeddedInteraction, encode_embedded
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.rows import encode_bag
from streams.settings.names import BAGS_CHANGELOG
from tests.benchmarks.results import COLOURS, write
from tests.benchmarks.scaling.alone import Keyed, Work, alone
from tests.benchmarks.throughput.report import spread
from tests.benchmarks.throughput.stand import partition_of
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System
from tests.usage import peak_resident_mb

BEGIN = 1_700_000_000_000  # milliseconds since the epoch
UNIT = np.array([0, 1 / 255], "<f4").tobytes()  # minimum and step of an embedding with values between 0 and 1
EXACT = 1.0  # seconds; the log is too coarse for the rate of a shorter recovery
WARMING = 2000  # events of the warm-up


class Shop:
    """Generated users, items and embeddings. The same arguments give the same data."""

    def __init__(self, users: int, items: int, bundle: Bundle) -> None:
        self._users = users
        self._items = items
        self._bundle = bundle
        self._chance = random.Random(7)

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and value of all rows of all users."""
        for number in range(self._users):
            user = self._user(number)
            for key, value in encode_bag(user, self._bag()).items():
                yield partition_of(user.encode()), key, value

    def events(self, count: int, name: str) -> list[Keyed]:
        """Embedded purchases of random users."""
        made: list[Keyed] = []
        for number in range(count):
            user, item = self._user(self._chance.randrange(self._users)), self._item()
            moment = BEGIN + self._items + number
            event = EmbeddedInteraction(
                event_id=f"{name}-{number}",
                user_id=user,
                item_id=item,
                type="purchase",
                timestamp=moment,
                image_url=self._url(item),
                embedder_version=self._bundle.embedder_version,
                embedding=self._embedding(),
            )
            made.append((user.encode(), encode_embedded(event)))
        return made

    def _bag(self) -> Bag:
        slots: dict[str, Slot] = {}
        for number in range(self._items):
            item = self._item()
            moment = Moment(BEGIN + number, f"event-{self._chance.randrange(10**12)}", item, "purchase")
            picture = Picture(moment, self._bundle.embedder_version, self._url(item), self._embedding())
            slots[item] = Slot(item, {"purchase": moment}, (picture,))
        return Bag(slots)

    def _item(self) -> str:
        return f"item-{self._chance.randrange(10**9)}"

    def _embedding(self) -> bytes:
        return UNIT + self._chance.randbytes(self._bundle.embedding_size)

    @staticmethod
    def _user(number: int) -> str:
        return f"user-{number}"

    @staticmethod
    def _url(item: str) -> str:
        return f"https://shop.example/pictures/{item}.jpg"


@dataclass(frozen=True)
class State:
    """Figures for one number of users."""

    rows: int
    row: float
    """Mean size of a row, key and value, bytes."""
    seconds: float
    """Duration of the recovery, with one decimal."""
    resident: float
    """Peak resident memory of the recovery, MB."""
    disk: int
    """Bytes on disk after the recovery."""
    work: Work
    """Figures of the events after the recovery."""


async def fill(bootstrap: str, shop: Shop, rows: int) -> float:
    """Write the rows to the changelog topic. Returns their mean size, bytes."""
    size = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=2**18) as producer:
        progress = track(shop.rows(), "writing the changelog", rows, console=Console(stderr=True), transient=True)
        for partition, key, value in progress:
            size += len(key) + len(value)
            await producer.send(BAGS_CHANGELOG, value, key=key, partition=partition)
        await producer.flush()
    return size / rows


async def state(broker: KafkaBroker, folder: Path, users: int, items: int, count: int) -> State:
    """Measure the recovery of these users, and `count` events afterwards."""
    shop, rows, sizes = Shop(users, items, Bundle.load()), users * items, []

    async def prepare(system: System) -> None:
        sizes.append(await fill(system.broker.bootstrap, shop, rows))

    async with alone(broker, folder, "profile", 1, prepare=prepare) as running:
        [system] = running.systems
        resident = peak_resident_mb(system.worker_pid("profile"))
        found = re.findall(r"from (\d+) changelog records in ([\d.]+) s", system.log())
        [(recovered, seconds)] = found
        if int(recovered) != rows:
            raise RuntimeError(f"{recovered} of {rows} rows were recovered")
        disk = sum(path.stat().st_size for path in (system.folder / "data").rglob("*") if path.is_file())
        await running.through(shop.events(WARMING, "warming"))
        work = await running.through(shop.events(count, "measured"))
    return State(rows, sizes[0], float(seconds), resident, disk, work)


async def run(numbers: list[int], items: int, count: int, rounds: int, console: Console) -> dict[int, list[State]]:
    """Measure. Returns the states by number of users."""
    found: dict[int, list[State]] = {users: [] for users in numbers}
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        await state(broker, Path(temporary) / "warming", 1000, items, count)
        for number in range(rounds):
            for users, states in found.items():
                folder = Path(temporary) / f"{users}-{number}"
                states.append(await state(broker, folder, users, items, count))
                shutil.rmtree(folder)
                console.print(
                    f"{users:,} users: recovered in {states[-1].seconds:.1f} s, {states[-1].work.rate:,.0f} events/s"
                )
    return found


def show(found: dict[int, list[State]], items: int) -> None:
    table = Table(
        "users", "rows", "bytes per row", "recovered in, s", "rows/s", "MB resident", "bytes on disk per user",
        "then events/s", "processor ms per event", "MB resident",
        title=f"users with {items} items each, medians",
    )  # fmt: skip
    for users, states in found.items():
        first = states[0]
        table.add_row(
            f"{users:,}",
            f"{first.rows:,}",
            f"{first.row:,.0f}",
            f"{statistics.median(one.seconds for one in states):.1f}",
            spread([one.rows / one.seconds for one in states]) if all(one.seconds >= EXACT for one in states) else "-",
            f"{max(one.resident for one in states):.0f}",
            f"{statistics.median(one.disk for one in states) / users:,.0f}",
            spread([one.work.rate for one in states]),
            spread([one.work.used for one in states], 2),
            f"{max(one.work.resident for one in states):.0f}",
        )
    Console(width=160).print(table)


def draw(found: dict[int, list[State]], figure: Any) -> None:
    """Plot rate, memory and disk against the number of users."""
    axes: Any = figure.subplots(1, 3)
    users = sorted(found)
    drawn = {
        "events/s": [statistics.median(one.work.rate for one in found[number]) for number in users],
        "MB resident at most": [max(one.work.resident for one in found[number]) for number in users],
        "bytes on disk per user": [statistics.median(one.disk for one in found[number]) / number for number in users],
    }
    for one, (label, values), colour in zip(axes, drawn.items(), COLOURS, strict=False):
        one.plot(users, values, "o-", color=colour)
        one.set_xscale("log")
        one.set_ylim(bottom=0)
        one.set_xlabel("users")
        one.set_ylabel(label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--users",
        default="1000,100000,1000000",
        help="numbers of users, separated by commas (default 1000,100000,1000000)",
    )
    parser.add_argument("--items", type=int, default=4, help="items per user, with a row each (default 4)")
    parser.add_argument("--events", type=int, default=20_000, help="events after the recovery (default 20000)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds for each number of users (default 1)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    numbers = [int(number) for number in arguments.users.split(",")]
    found = asyncio.run(run(numbers, arguments.items, arguments.events, arguments.rounds, Console(stderr=True)))
    show(found, arguments.items)
    if arguments.out:
        figures = {users: [asdict(one) for one in states] for users, states in found.items()}
        write(arguments.out, "users", {"items": arguments.items, "users": figures}, partial(draw, found), (12, 3.5))


if __name__ == "__main__":
    main()
