"""How long a partition is silent when its profile worker is stopped or killed, for several numbers of users in the state.

    python -m tests.benchmarks.scaling.handover
    python -m tests.benchmarks.scaling.handover --users 100000 --without

Two profile workers share the partitions. Events come at a steady rate. One worker is stopped by SIGTERM, started again, and killed
by SIGKILL once it has its share back. The silence is the longest time between two recommendations of a partition.
"""

import argparse
import asyncio
import logging
import os
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from tests.benchmarks.scaling.alone import RECOVERY_TIMEOUT, TOPICS, Alone, alone
from tests.benchmarks.scaling.users import Shop, fill
from tests.benchmarks.throughput.stand import PARTITIONS
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import Record, System, wait_until

SOURCE, OUTPUT = TOPICS["profile"]
RATE = 400.0  # events/s
BEFORE, AFTER = 3.0, 15.0  # seconds of events before and after the fault: more than the session time-out
HERE, AGAIN = "the bags of all other partitions are here", "joining the group again"
STOP, KILL = "SIGTERM", "kill -9"


def silence(records: Iterable[Record]) -> float:
    """The longest time between two records of a partition, in seconds, by their own times."""
    times: dict[int, list[int]] = defaultdict(list)
    for record in records:
        times[record.partition].append(record.timestamp)
    return max(after - before for found in times.values() for before, after in pairwise(sorted(found))) / 1000


async def silent(running: Alone, shop: Shop, name: str, number: signal.Signals) -> float:
    """Send a signal to the second worker while events come. Returns the silence of its partitions, in seconds."""
    first, second = running.systems
    before = await first.ends(OUTPUT)
    count = int((BEFORE + AFTER) * RATE)
    async with AIOKafkaProducer(bootstrap_servers=first.broker.bootstrap, linger_ms=1) as producer:
        begun, struck = time.monotonic(), False
        for place, (key, value) in enumerate(shop.events(count, name)):
            if (early := begun + place / RATE - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await producer.send(SOURCE, value, key=key)
            if not struck and place >= BEFORE * RATE:
                os.kill(second.worker_pid("profile"), number)
                struck = True
        await producer.flush()
    return silence(await _answers(first, before, count))


async def _answers(system: System, since: Mapping[TopicPartition, int], count: int) -> list[Record]:
    async with asyncio.timeout(RECOVERY_TIMEOUT):
        while len(found := await system.read(OUTPUT, since)) < count:  # noqa: ASYNC110 -- Kafka sends no notice
            await asyncio.sleep(0.5)
    return found


async def measured(broker: KafkaBroker, folder: Path, users: int, items: int, *, standby: bool) -> dict[str, float]:
    """The silence after each fault, in seconds."""
    shop, filled = Shop(users, items, Bundle.load()), False

    async def prepare(system: System) -> None:
        nonlocal filled
        if not filled:
            await fill(system.broker.bootstrap, shop, users * items)
            filled = True

    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(alone(broker, folder, "profile", 2, prepare=prepare, standby=standby))
        _, second = running.systems
        if standby:
            wait_until(lambda: AGAIN in second.log(), RECOVERY_TIMEOUT)
        found = {STOP: await silent(running, shop, "stop", signal.SIGTERM)}
        before = second.log().count(AGAIN)
        process = stack.enter_context(second.worker("profile", ready=False))
        second.wait_ready("profile", process, RECOVERY_TIMEOUT)
        if standby:
            wait_until(lambda: second.log().count(AGAIN) > before, RECOVERY_TIMEOUT)
        found[KILL] = await silent(running, shop, "kill", signal.SIGKILL)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="1000,100000,1000000", help="numbers of users (default 1000,100000,1000000)")
    parser.add_argument("--items", type=int, default=4, help="items per user, with a row each (default 4)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds for each number of users (default 1)")
    parser.add_argument("--without", action="store_true", help="without STANDBY, for comparison")
    arguments = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns that new topics have no leader yet, and retries
    table = Table("users", STOP, KILL)
    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        for users in map(int, arguments.users.split(",")):
            rounds = [
                asyncio.run(
                    measured(
                        broker, Path(temporary) / f"{users}-{number}", users, arguments.items,
                        standby=not arguments.without,
                    )
                )
                for number in range(arguments.rounds)
            ]  # fmt: skip
            values = {what: [one[what] for one in rounds] for what in (STOP, KILL)}
            table.add_row(f"{users:,}", *(_spread(values[what]) for what in (STOP, KILL)))
    console = Console(width=100)
    console.print(f"longest silence of a partition, s; {PARTITIONS} partitions, session time-out 6 s")
    console.print(table)


def _spread(values: list[float]) -> str:
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
