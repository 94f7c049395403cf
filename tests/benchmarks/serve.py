"""The latency of the serve worker's answers under load, and its memory and processor time.

    python -m tests.benchmarks.serve
    python -m tests.benchmarks.serve --users 10000 --items 10000

Requests have fixed times, with exponential pauses between them. If a slow answer delays the next request, the latency of that one
still counts from its own time (no coordinated omission). The bags are written to the changelog directly, so no other worker runs.
Broker, load generator and worker share the processors.
"""

import argparse
import asyncio
import gc
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from model.quantization import quantize_all
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.rows import encode_bag
from streams.settings.names import BAGS_CHANGELOG
from tests.benchmarks.load import percentile
from tests.benchmarks.results import COLOURS, write
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System, wait_until
from tests.usage import peak_resident_mb, processor_seconds

BAG = 16  # items of a user
START = 1_700_000_000_000  # milliseconds
PARTITIONS = 4  # what System sets
READ = 1200.0  # seconds that the worker has to read the bags
QUERIES = {"categories": "", "12 items": "?items=12"}
RATES = {"categories": (100, 250, 500, 750), "12 items": (25, 50, 100)}  # requests/s
CONNECTIONS = 64
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True)
class Load:
    """The latencies at one rate."""

    query: str
    rate: int  # requests/s
    waits: list[float]  # milliseconds from the time of a request to its answer
    processor: float  # milliseconds of the worker for a request
    failed: int

    def at(self, share: float) -> float:
        return percentile(self.waits, share)


async def fill(broker: KafkaBroker, users: int, items: int) -> int:
    """Write the bags of users to the changelog. Returns the number of items that they hold."""
    bundle, chance = Bundle.load(), random.Random(0)
    rng = np.random.default_rng(0)
    rows = quantize_all(rng.random((items, bundle.embedding_size), np.float32))
    version, held = bundle.embedder_version, set[int]()
    async with AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, linger_ms=20, max_batch_size=512 * 1024
    ) as producer:
        for number in range(users):
            user, slots = f"user-{number}", {}
            chosen = chance.sample(range(items), BAG)
            held.update(chosen)
            for place, item in enumerate(chosen):
                name = f"item-{item}"
                moment = Moment(START + place * 86_400_000, f"event-{number}-{place}", name, "purchase")
                picture = Picture(moment, version, f"https://shop.example/{name}.jpg", rows[item])
                slots[name] = Slot(name, {"purchase": moment}, (picture,))
            for key, value in encode_bag(user, Bag(slots)).items():
                await producer.send(BAGS_CHANGELOG, value, key, partition=partition_of(user.encode(), PARTITIONS))
        await producer.flush()
    return len(held)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time. It does next to nothing: the worker is measured on the same processors."""

    @classmethod
    async def opened(cls, port: int) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._answered: asyncio.Future[bool] | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        if (found := LENGTH.search(head)) is not None and len(body) == int(found[1]) and self._answered is not None:
            self._answered.set_result(head.startswith(b"HTTP/1.1 200 "))
            self._answered = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None:
            self._answered.set_exception(exc or ConnectionResetError("the worker closed the connection"))

    async def get(self, target: str) -> bool:
        """Whether the answer has status 200. Raises OSError if the connection ends."""
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._received, self._answered = b"", answered
        self._transport.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return await answered

    def close(self) -> None:
        self._transport.abort()


async def asked(free: asyncio.LifoQueue[Connection], port: int, target: str, due: float) -> tuple[float, bool]:
    """Milliseconds from `due` to the answer, and whether it was one."""
    connection = await free.get()
    try:
        good = await connection.get(target)
    except OSError:
        good, connection = False, await Connection.opened(port)
    wait = (time.perf_counter() - due) * 1000
    free.put_nowait(connection)
    return wait, good


async def loaded(port: int, pid: int, query: str, rate: int, *, users: int, seconds: float) -> Load:
    """Ask for random users at a rate."""
    chance = random.Random(rate)
    tasks: list[asyncio.Task[tuple[float, bool]]] = []
    free = asyncio.LifoQueue[Connection]()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.opened(port))
    gc.disable()  # a pause of the generator is none of the worker
    used, begun = processor_seconds(pid), time.perf_counter()
    due = begun
    while (due := due + chance.expovariate(rate)) < begun + seconds:
        await asyncio.sleep(due - time.perf_counter())
        target = f"/v1/users/user-{chance.randrange(users)}/recommendations{QUERIES[query]}"
        tasks.append(asyncio.create_task(asked(free, port, target, due)))
    found = await asyncio.gather(*tasks)
    spent = (processor_seconds(pid) - used) / len(found) * 1000
    gc.enable()
    while not free.empty():
        free.get_nowait().close()
    return Load(query, rate, [wait for wait, _ in found], spent, sum(not good for _, good in found))


def ready(system: System, process: subprocess.Popen[bytes], items: int) -> float:
    """Wait until the worker has the bags and the items. Returns the seconds that it took."""
    begun = time.monotonic()

    def full() -> bool:
        if process.poll() is not None:
            raise SystemExit(system.log())
        status, text = system.get("serve", "/v1/status")
        return status == 200 and '"ready":true' in text and f'"items":{items},' in text

    wait_until(full, READ, system.log)
    return time.monotonic() - begun


def drawn(loads: Sequence[Load]) -> Callable[[Any], None]:
    """Draw the 99th percentile by rate."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for colour, query in zip(COLOURS, QUERIES, strict=False):
            own = [load for load in loads if load.query == query]
            axes.plot([load.rate for load in own], [load.at(0.99) for load in own], "o-", color=colour, label=query)
        axes.set(xlabel="requests/s", ylabel="p99, ms", yscale="log")
        axes.legend()

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds at each rate (default 20)")
    parser.add_argument("--out", type=Path, help="folder for serve.json, serve.svg and serve.png")
    arguments = parser.parse_args()
    console = Console(width=100)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        system = System(broker, folder)
        if (done := system.command("topics")).returncode:
            raise SystemExit(done.stderr)
        held = asyncio.run(fill(broker, arguments.users, arguments.items))
        process = stack.enter_context(system.worker("serve", ready=False))
        console.print(f"{arguments.users:,} users and {held:,} items after {ready(system, process, held):.0f} s")
        pid, port = system.worker_pid("serve"), system.ports["serve"]
        loads: list[Load] = []
        table = Table("", "requests/s", "p50 ms", "p99 ms", "max ms", "failed", "processor ms a request")
        for query, rates in RATES.items():
            asyncio.run(loaded(port, pid, query, rates[0], users=arguments.users, seconds=3))  # warms up
            for rate in rates:
                load = asyncio.run(loaded(port, pid, query, rate, users=arguments.users, seconds=arguments.seconds))
                loads.append(load)
                figures = [f"{load.at(share):.1f}" for share in (0.5, 0.99, 1.0)]
                table.add_row(query, str(rate), *figures, str(load.failed), f"{load.processor:.2f}")
        console.print(table)
        console.print(f"peak memory of the worker: {peak_resident_mb(pid):,.0f} MB")
    if arguments.out:
        found = [
            {"query": one.query, "rate": one.rate, "p99": one.at(0.99), "processor": one.processor} for one in loads
        ]
        write(arguments.out, "serve", found, drawn(loads), (7, 4))


if __name__ == "__main__":
    main()
