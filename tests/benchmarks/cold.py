"""The rate of new pictures through the embed worker, compared with the same decoder and model without Kafka, HTTP and cache.

    python -m tests.benchmarks.cold

`raw` has all pictures in memory, as many threads for decoding as the worker has processes, and `--threads` for the model. Each
round produces one event with a new URL for each picture, and starts an embed worker. A server in this process serves the
pictures. `raw` and the worker alternate. The table also shows processor time by process, since broker, worker, decoders and
server share the cores that `raw` has for itself.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from aiohttp import web
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams.embed.decoding.pool import DECODERS
from streams.settings import Settings
from tests.benchmarks.results import COLOURS, write
from tests.benchmarks.throughput.stand import connected, written
from tests.data import photos
from tests.kafka.broker import KafkaBroker
from tests.kafka.system import System
from tests.streams.web.servers import serving
from tests.usage import children, processor_seconds

OUTPUT = "embedded-interactions"
BATCH: int = Settings.model_fields["embed_batch"].default


class Round(NamedTuple):
    """Pictures/s, and processor milliseconds per picture, by process."""

    rate: float
    used: dict[str, float]


def raw(pictures: list[bytes], bundle: Bundle, threads: int) -> Round:
    """Decode and embed in batches. The decoders are one batch ahead of the model."""
    embedder = bundle.embedder(threads)
    batches = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
    used, begun = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(DECODERS) as decoders:
        decoding = [decoders.submit(decode_picture, data, bundle.image_size) for data in batches[0]]
        for following in [*batches[1:], []]:
            ahead = [decoders.submit(decode_picture, data, bundle.image_size) for data in following]
            for embedding in embedder.embed(np.stack([decoded.result() for decoded in decoding])):
                quantize(embedding)
            decoding = ahead
    seconds = time.perf_counter() - begun
    return Round(len(pictures) / seconds, {"raw": (time.process_time() - used) / len(pictures) * 1000})


async def through_the_worker(system: System, urls: list[str]) -> Round:
    """Measure the embed worker from the first to the last embedded interaction on the topic."""
    await system.produce(
        {
            "user_id": f"user-{number % 100}",
            "item_id": url,
            "type": "view",
            "timestamp": int(time.time() * 1000),
            "image_url": url,
        }
        for number, url in enumerate(urls)
    )
    begin = await system.ends(OUTPUT)
    async with connected(system.broker.bootstrap) as (_, consumer):
        with system.worker("embed"):
            worker = system.worker_pid("embed")
            pids = {"worker": worker, "server and load": os.getpid(), "broker": system.broker.pid}
            pids |= {f"decoder {number}": pid for number, pid in enumerate(children(worker), 1)}
            before = {name: processor_seconds(pid) for name, pid in pids.items()}
            await written(consumer, list(begin), sum(begin.values()) + len(urls))
            used = {name: (processor_seconds(pid) - before[name]) / len(urls) * 1000 for name, pid in pids.items()}
    times = [record.timestamp for record in await system.read(OUTPUT, begin)]
    if len(times) != len(urls):
        raise SystemExit(
            f"{len(urls)} pictures were requested, but {len(times)} arrived; see {system.folder}/worker.log"
        )
    return Round(len(times) / (max(times) - min(times)) * 1000, used)


async def run(count: int, rounds: int, threads: int) -> dict[str, list[Round]]:
    files = sorted(photos().glob("*.jpg"))
    pictures = [files[number % len(files)].read_bytes() for number in range(count)]
    bundle = Bundle.load()
    measured: dict[str, list[Round]] = {"raw": [], "embed worker": []}

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=pictures[int(request.query["n"])], content_type="image/jpeg")

    with tempfile.TemporaryDirectory() as temporary, KafkaBroker(Path(temporary) / "kafka") as broker:
        system = System(broker, Path(temporary), model_threads=threads)
        system.configure(commit_interval=1.0)
        assert system.command("topics").returncode == 0
        async with serving(answer) as base:
            for turn in range(-1, rounds):  # the first round warms up, mainly the broker
                urls = [f"{base}/{turn}?n={number}" for number in range(count)]
                one = {
                    "raw": raw(pictures, bundle, threads),
                    "embed worker": await through_the_worker(system, urls),
                }
                if turn >= 0:
                    for name, found in one.items():
                        measured[name].append(found)
    return measured


def show(measured: Mapping[str, list[Round]], threads: int) -> None:
    console = Console(width=120)
    title = f"new pictures, {threads} thread{'s' if threads > 1 else ''} for the model"
    table = Table("", "pictures/s, median", "each round", "processor ms per picture, medians", title=title)
    for name, found in measured.items():
        shown = ", ".join(f"{one.rate:,.0f}" for one in found)
        used = (f"{part} {statistics.median(one.used[part] for one in found):.2f}" for part in found[0].used)
        table.add_row(name, f"{statistics.median(one.rate for one in found):,.0f}", shown, ", ".join(used))
    console.print(table)
    ratios = [worker.rate / raw.rate for raw, worker in zip(*measured.values(), strict=True)]
    console.print(
        f"embed worker / raw, round by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
        f"median {statistics.median(ratios):.2f}"
    )


def draw(measured: Mapping[str, list[Round]], figure: Any) -> None:
    axes = figure.subplots()
    for place, (found, colour) in enumerate(zip(measured.values(), COLOURS, strict=False)):
        rates = [one.rate for one in found]
        axes.barh(place, statistics.median(rates), color=colour)
        axes.plot(rates, [place] * len(rates), "o", color="black", markersize=3)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlabel("new pictures/s: median, and each round")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="pictures in a round (default 5000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; raw and worker alternate (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the model (default 1, as for the workers)")
    parser.add_argument("--out", type=Path, help="folder for the figures, as JSON and as a plot")
    arguments = parser.parse_args()
    measured = asyncio.run(run(arguments.count, arguments.rounds, arguments.threads))
    show(measured, arguments.threads)
    if arguments.out:
        rounds = {name: [one._asdict() for one in found] for name, found in measured.items()}
        write(arguments.out, "cold", rounds, partial(draw, measured), (8, 2))


if __name__ == "__main__":
    main()
