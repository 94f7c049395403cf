"""Whether the serve worker answers what the topic has, for all users of a data set, whoever dies.

    python -m tests.benchmarks.serve_equal hm150 --embeddings embeddings_mobilenet_v1.npz --bundle bundles/1

`hm150` is a folder that `tastestream dataset hm` wrote; the bundle must have the backbone of the embeddings. All events of the data
set go through the workers on real Kafka, and then twice a view of each user on the day after: the first moves an item to that day,
and so changes the trend, the second does not. Then the replica, the other workers and the broker are killed in turns. Exit code
1: an answer differs.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from model.quantization import quantize
from offline_training.retrain.shared import share
from streams.features.records import features_version
from streams.settings import read_settings
from tests.benchmarks.hm_stream import ADDRESS
from tests.kafka.broker import KafkaBroker
from tests.kafka.shop import Shop, all_live, newest, other_answers
from tests.kafka.system import System, wait_until

DAY = 86_400_000  # milliseconds
SOON = 120.0  # seconds
AWAY = 30.0  # seconds without a broker
TREND = "category-trend"
QUIET = 90.0  # seconds without a record after which the trend is settled: large snapshots are rare


def event(number: int, user: str, item: str, kind: str, moment: int) -> dict[str, Any]:
    """An event as a shop sends it."""
    return {
        "event_id": f"{number}", "user_id": user, "item_id": item, "type": kind, "timestamp": moment,
        "image_url": ADDRESS.format(item),
    }  # fmt: skip


def events_of(dataset: Path, embedded: set[str]) -> list[dict[str, Any]]:
    """All events of a data set in time order."""
    rows = [
        row for row in pq.read_table(dataset / "events.parquet").sort_by("time").to_pylist() if row["item"] in embedded
    ]
    return [event(number, row["user"], row["item"], row["type"], row["time"]) for number, row in enumerate(rows)]


def one_more(events: list[dict[str, Any]], turn: int) -> list[dict[str, Any]]:
    """A view of each user on the day after the last event, of the item of the newest one."""
    last = {one["user_id"]: one["item_id"] for one in events}
    start, moment = len(events) + turn * len(last), events[-1]["timestamp"] + DAY + turn * 1000
    return [event(start + number, user, item, "view", moment) for number, (user, item) in enumerate(last.items())]


async def quiet(system: System) -> None:
    """Wait until the trend has not changed for a while, so that all workers have the same."""
    seen, since = await system.ends(TREND), time.monotonic()
    while time.monotonic() < since + QUIET:
        await asyncio.sleep(0.5)
        if (now := await system.ends(TREND)) != seen:
            seen, since = now, time.monotonic()


def compared(shop: Shop, wanted: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """How many answers differ, after each thing that happens."""

    def others() -> int:
        return len({user for user, *_ in other_answers(shop, wanted)})

    wait_until(lambda: not others(), 20, lambda: str(other_answers(shop, wanted)[:1]))
    yield "while all run", others()
    shop.kill("serve")
    shop.start("serve")
    yield "after kill -9 of the serve worker", others()
    shop.kill("embed", "profile")
    yield "after kill -9 of the other workers", others()
    shop.system.broker.kill()
    gone = time.monotonic()
    user = next(iter(wanted))
    wait_until(lambda: shop.recommended(user)["state"]["source"] == "stale", SOON, shop.system.log)
    found = others()
    while time.monotonic() < gone + AWAY:
        found = max(found, others())
    age = shop.recommended(user)["state"]["age"]
    yield f"after {AWAY:.0f} s without a broker, which the answers say: stale, {age:.0f} s old", found
    shop.system.broker.start()
    wait_until(lambda: all_live(shop), SOON, shop.system.log)
    yield "with the broker again, live", others()
    shop.start("embed", "profile")
    yield "with the workers again", others()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--embeddings", type=Path, required=True, help="features of all items")
    parser.add_argument("--bundle", type=Path, required=True)
    arguments = parser.parse_args()
    bundle, console = Bundle.load(arguments.bundle), Console(width=100)
    with np.load(arguments.embeddings) as stored:
        features = dict(zip(map(str, stored["ids"]), stored["emb"], strict=True))
    events = events_of(arguments.dataset, set(features))
    rows = {one["image_url"]: quantize(features[one["item_id"]]) for one in events}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(KafkaBroker(folder / "kafka"))
        system = System(broker, folder, bundle=arguments.bundle.absolute(), trend_interval=1)
        if (done := system.command("topics")).returncode:
            raise SystemExit(done.stderr)
        asyncio.run(
            share(read_settings(broker=broker.bootstrap), features_version(bundle), rows, int(time.time() * 1000))
        )
        shop = Shop(system, "")
        stack.callback(shop.stop)
        shop.start("embed", "profile", "serve")
        for some in (events, one_more(events, 0), one_more(events, 1)):
            asyncio.run(system.produce(some))
            asyncio.run(system.settled("embed", "profile"))
            if bundle.labels_version and some is not events:
                asyncio.run(quiet(system))
        wanted = asyncio.run(newest(system))
        table = Table("", "users", "other answers", title=f"{len(events):,} events, {bundle.name} {bundle.version}")
        total = 0
        for what, others in compared(shop, wanted):
            table.add_row(what, str(len(wanted)), str(others))
            total += others
    console.print(table)
    console.print("Equal: within 0.000002; what is as strong as the next may have changed places with it.")
    raise SystemExit(1 if total else 0)


if __name__ == "__main__":
    main()
