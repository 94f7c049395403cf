"""Runs the demo: starts a broker, workers and a picture server, plays the story event by event, and stops everything."""

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console

from model.exceptions import TastestreamError
from streams.console import print_error
from streams.dead_letter import letter_of
from streams.demo.broker import embedded_broker
from streams.demo.catalogue import Product, Shopper, Step, interleaved, read_products, read_shoppers
from streams.demo.pictures import picture_server
from streams.demo.processes import free_port, running
from streams.demo.screen import Screen
from streams.kafka.offsets import ISOLATION
from streams.kafka.records import Record
from streams.runtime.supervisor import KINDS
from streams.settings import PREFIX, Settings

READY_TIMEOUT = 60.0  # seconds until the workers must be ready
ANSWER_TIMEOUT = 20.0  # seconds until a recommendation must arrive
PLAIN_WIDTH = 110  # characters of a line if the output is not a terminal


class DemoError(TastestreamError):
    """A process of the demo failed or did not answer in time."""


def run_demo(*, keep: bool, pace: float) -> int:
    """Run the demo.

    Args:
        keep: keep running after the story, and show the recommendations for events of other producers, until Ctrl-C.
        pace: seconds between two events.

    Returns:
        The exit code.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    try:
        return asyncio.run(_run(console, keep=keep, pace=pace))
    except TastestreamError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 0


async def _run(console: Console, *, keep: bool, pace: float) -> int:
    started = monotonic()
    products, shoppers = read_products(), read_shoppers()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tastestream-demo-")))
        with console.status("Starting a broker, a picture server and three workers ..."):
            broker = await stack.enter_async_context(embedded_broker(folder / "broker.log"))
            pictures = await stack.enter_async_context(picture_server())
            serve = await stack.enter_async_context(_workers(broker, folder))
            shop = await stack.enter_async_context(_Shop(broker, pictures, products))
        console.print(
            f"Ready after {monotonic() - started:.1f} s. Broker: [bold]{broker}[/bold]\nPictures: [bold]{pictures}/[/bold]\n"
            f"Web page: [bold]{serve}/[/bold]\n"
        )
        with Screen(console, shoppers, products) as screen:
            waits = [await _play(shop, screen, shopper, step, pace) for shopper, step in interleaved(shoppers)]
        console.print(
            f"\n{len(waits)} events, {len(waits)} recommendations, none lost.\n"
            f"From event to recommendation: median {statistics.median(waits):.0f} ms, slowest {max(waits):.0f} ms. "
            "Nearly all of it is the embedded broker, which looks for new records four times a second. The README has Kafka's figures."
        )
        if keep:
            await _keep(console, screen, shop, broker, pictures)
        else:
            console.print(
                "Next: [bold]tastestream demo --keep[/bold] takes your own events; the README shows a producer and a consumer."
            )
    return 0


async def _play(shop: "_Shop", screen: Screen, shopper: Shopper, step: Step, pace: float) -> float:
    started = perf_counter()
    recommendation = await shop.recommendation(await shop.send(shopper.user_id, step))
    milliseconds = (perf_counter() - started) * 1000
    screen.show_event(shopper, step, recommendation, milliseconds)
    await asyncio.sleep(pace)
    return milliseconds


async def _keep(console: Console, screen: Screen, shop: "_Shop", broker: str, pictures: str) -> None:
    console.print(
        f"\nRunning until Ctrl-C. Recommendations and dead letters appear here. Produce JSON to [bold]user-interactions[/bold] on "
        f"[bold]{broker}[/bold], for example\n"
        f'  {{"user_id": "me", "item_id": "pink-orchid", "type": "purchase", "timestamp": "{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", '
        f'"image_url": "{pictures}/pink-orchid.jpg"}}\n',
        highlight=False,
        soft_wrap=True,  # so that the example can be copied as one line
    )
    async for record in shop.records():
        if record.topic == shop.dead_letters:
            screen.show_letter(letter_of(record))
        elif record.value is None:
            screen.show_erasure((record.key or b"").decode(errors="replace"))
        else:
            screen.show_other(msgspec.json.decode(record.value))


@asynccontextmanager
async def _workers(broker: str, folder: Path) -> AsyncGenerator[str]:
    """Run `tastestream worker all` as a process, and wait until all workers are ready. Yields the address of the serve worker."""
    ports = {kind: free_port() for kind in KINDS}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {
        f"{PREFIX}BROKER": broker,
        f"{PREFIX}DATA_DIR": str(folder / "data"),
        f"{PREFIX}PARTITIONS": "2",
        **{f"{PREFIX}{kind.upper()}_PORT": str(port) for kind, port in ports.items()},
        f"{PREFIX}IDEMPOTENCE": "false",  # the embedded broker does not support producer ids
        f"{PREFIX}FETCH_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    log = folder / "workers.log"
    command = (sys.executable, "-P", "-m", "streams", "worker", "all", "--with-parent")
    async with running(*command, log=log, environment=environment) as process:
        await _until_ready(process, list(ports.values()), log)
        yield f"http://127.0.0.1:{ports['serve']}"


async def _until_ready(process: asyncio.subprocess.Process, ports: list[int], log: Path) -> None:
    deadline = monotonic() + READY_TIMEOUT
    waiting = set(ports)
    async with aiohttp.ClientSession() as client:
        while waiting:
            if process.returncode is not None or monotonic() > deadline:
                state = "stopped" if process.returncode is not None else f"are not ready after {READY_TIMEOUT:.0f} s"
                raise DemoError(
                    f"the workers {state}. The end of their log:\n{log.read_text(errors='replace')[-2000:]}"
                )
            for port in list(waiting):
                try:
                    async with client.get(f"http://127.0.0.1:{port}/ready") as response:
                        if response.status == 200:
                            waiting.discard(port)
                except aiohttp.ClientConnectionError:
                    pass  # not listening yet
            await asyncio.sleep(0.1)


class _Shop:
    """Produces interactions and consumes recommendations. An asynchronous context manager."""

    def __init__(self, broker: str, pictures: str, products: Mapping[str, Product]) -> None:
        settings = Settings.model_construct()  # the defaults, as for the workers; the environment is ignored
        self.dead_letters = settings.dlq_topic
        self._topic = settings.interactions_topic
        self._pictures = pictures
        self._products = products
        self._producer = AIOKafkaProducer(bootstrap_servers=broker)
        self._consumer = AIOKafkaConsumer(
            settings.recommendations_topic,
            settings.dlq_topic,
            bootstrap_servers=broker,
            auto_offset_reset="earliest",
            isolation_level=ISOLATION,
        )

    async def __aenter__(self) -> "_Shop":
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def send(self, user_id: str, step: Step) -> str:
        """Produce the event of a step. Returns its event id."""
        now = datetime.now(UTC)
        event_id = f"{user_id}-{now:%H%M%S%f}"
        event = {
            "event_id": event_id,
            "user_id": user_id,
            "item_id": step.item_id,
            "type": step.type,
            "timestamp": now,
            "image_url": f"{self._pictures}/{self._products[step.item_id].file}",
        }
        await self._producer.send_and_wait(self._topic, msgspec.json.encode(event), key=user_id.encode())
        return event_id

    async def recommendation(self, event_id: str) -> Mapping[str, Any]:
        """The recommendation that the event caused. Raises DemoError if it does not arrive in time."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                async for recommendation in self.recommendations():
                    if recommendation["event_id"] == event_id:
                        return recommendation
        except TimeoutError:
            pass
        raise DemoError(f"no recommendation for event {event_id} within {ANSWER_TIMEOUT:.0f} s")

    async def recommendations(self) -> AsyncIterator[Mapping[str, Any]]:
        """Recommendations as they arrive."""
        async for record in self.records():
            if record.topic != self.dead_letters and record.value is not None:
                yield msgspec.json.decode(record.value)

    async def records(self) -> AsyncIterator[Record]:
        """Recommendations, null values after erasures, and dead letters, as they arrive."""
        async for record in self._consumer:
            yield record
