"""What the web page costs a browser: bytes, the first paint, processor time and memory of the tab.

    python -m tests.benchmarks.page
    python -m tests.benchmarks.page --rate 500 --seconds 600

A process of its own writes changes of bags to the changelog, and events to the topics, at the rate; no other worker runs. The screens
Shopper, which follows whoever is active, and Now are open one after the other. The heap is measured after a collection of garbage.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from model.bundle import Bundle
from model.quantization import quantize_all
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag, Moment, Picture, Slot
from streams.profile.rows import encode_bag
from streams.settings.names import BAGS_CHANGELOG
from tests.benchmarks.serve import PARTITIONS, START, fill
from tests.kafka.broker import KafkaBroker
from tests.kafka.browser import chromium
from tests.kafka.system import System

USERS, ITEMS = 1000, 500
LOADS = 9  # of the page, for the first paint
SCREENS = ("shopper", "now")
LOOKS = 6  # at the heap
WEIGHT = """() => performance.getEntries().filter((one) => one.transferSize && !one.name.includes('/v1/')
    && new URL(one.name).origin === origin).reduce((sum, one) => sum + one.transferSize, 0)"""
USEFUL = """() => new Promise((resolve) => {
    const look = () => document.querySelector('taste-bag li') ? resolve(performance.now()) : requestAnimationFrame(look);
    look();
})"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


async def play(broker: str, rate: int) -> None:
    """Write changed bags until standard input ends, and print how many a second there were."""
    bundle = Bundle.load()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    [row] = quantize_all(np.random.default_rng(1).random((1, bundle.embedding_size), np.float32))
    async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5) as producer:
        number, begun = 0, time.monotonic()
        while not ended.done():
            while not ended.done() and number < (time.monotonic() - begun) * rate:
                user, name = f"user-{number % USERS}", f"item-{number % ITEMS}"
                moment = Moment(START + number, f"change-{number}", name, "view")
                picture = Picture(moment, bundle.embedder_version, f"https://shop.example/{name}.jpg", row)
                bag = Bag({name: Slot(name, {"view": moment}, (picture,))})
                for key, value in encode_bag(user, bag).items():
                    await producer.send(BAGS_CHANGELOG, value, key, partition=partition_of(user.encode(), PARTITIONS))
                event = f'{{"event_id":"e-{number}","user_id":"{user}","item_id":"{name}","type":"return"}}'.encode()
                await producer.send("user-interactions", event, key=user.encode())
                number += 1
            await asyncio.sleep(0.005)
    say(f"written: {number / (time.monotonic() - begun):,.0f} events/s")


@asynccontextmanager
async def playing(broker: str, rate: int) -> AsyncGenerator[None]:
    """Write in a process of its own."""
    given = "-m", "tests.benchmarks.page", "--play", broker, "--rate", str(rate)
    child = await asyncio.create_subprocess_exec(sys.executable, *given, stdin=asyncio.subprocess.PIPE)
    try:
        yield
    finally:
        assert child.stdin is not None
        child.stdin.close()
        await child.wait()


async def loads(browser: Browser, base: str, count: int) -> None:
    """Print the weight of the page, and when it paints, with an empty cache each time."""
    paints: list[float] = []
    useful: list[float] = []
    weight = 0
    for _ in range(count):
        context = await browser.new_context(base_url=base)
        page = await context.new_page()
        await page.goto("/#/shopper/user-1")
        useful.append(await page.evaluate(USEFUL))
        paints.append(await page.evaluate(PAINT))
        weight = await page.evaluate(WEIGHT)
        await context.close()
    say(f"bytes of the page, compressed: {weight:,}")
    say(f"first paint: median {statistics.median(paints):.0f} ms of {count} ({min(paints):.0f} to {max(paints):.0f})")
    say(
        f"the bag is shown: median {statistics.median(useful):.0f} ms of {count} ({min(useful):.0f} to {max(useful):.0f})"
    )


async def stay(page: Page, screen: str, seconds: float) -> None:
    """Print what a tab costs while it shows a screen."""
    tab: CDPSession = await page.context.new_cdp_session(page)
    await tab.send(
        "Performance.enable", {"timeDomain": "threadTicks"}
    )  # not the time for which others have the processor
    await page.goto(f"/#/{screen}")
    await page.locator("h1").first.wait_for(timeout=120_000)  # until the first change, after which the tab is measured
    busy, heaps = -await task_seconds(tab), [await heap(tab)]
    begun = time.monotonic()
    for _ in range(LOOKS):
        await asyncio.sleep(seconds / LOOKS)
        heaps.append(await heap(tab))
    busy += await task_seconds(tab)
    share = busy / (time.monotonic() - begun)
    nodes = await page.evaluate("document.getElementsByTagName('*').length")
    say(f"{screen}: {share:.1%} of a core; heap {', '.join(f'{one:.1f}' for one in heaps)} MB; {nodes} elements")


async def metrics(tab: CDPSession) -> dict[str, float]:
    found: dict[str, Any] = await tab.send("Performance.getMetrics")
    return {one["name"]: one["value"] for one in found["metrics"]}


async def task_seconds(tab: CDPSession) -> float:
    """Processor seconds of the tab's main thread so far."""
    return (await metrics(tab))["TaskDuration"]


async def heap(tab: CDPSession) -> float:
    """Megabytes that the scripts of the tab hold."""
    await tab.send("HeapProfiler.collectGarbage")
    return (await metrics(tab))["JSHeapUsedSize"] / 1e6


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def measure(rates: list[int], seconds: float, count: int) -> None:
    with tempfile.TemporaryDirectory() as name, KafkaBroker(Path(name) / "kafka") as broker:
        system = System(broker, Path(name))
        assert system.command("topics").returncode == 0
        await fill(broker, USERS, ITEMS)
        with system.worker("serve"):
            base = f"http://127.0.0.1:{system.ports['serve']}"
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=chromium(), args=["--no-sandbox", "--enable-precise-memory-info"]
                )
                await loads(browser, base, count)
                for rate in rates:
                    say(f"{rate} events/s, {seconds:.0f} s a screen")
                    async with playing(broker.bootstrap, rate):
                        for screen in SCREENS:
                            page = await browser.new_page(base_url=base)
                            await stay(page, screen, seconds)
                            await page.close()
                await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, action="append", help="events per second; several times for several rates")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a screen is open (default 60)")
    parser.add_argument("--loads", type=int, default=LOADS, help=f"loads of the page (default {LOADS})")
    parser.add_argument("--play", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        asyncio.run(play(arguments.play, arguments.rate[0]))
    else:
        asyncio.run(measure(arguments.rate or [2000, 500], arguments.seconds, arguments.loads))


if __name__ == "__main__":
    main()
