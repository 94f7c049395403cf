"""Draws docs/page: each screen of the web page, light and dark, on a desktop and on a phone, from the running system.

Run `make screenshots`. It needs what the tests on Kafka need, and Chromium.
`python -m tests.docs.screenshots FOLDER [SCREEN ...]` draws into another folder, the narrowest and the widest page, too.
"""

import asyncio
import io
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Literal

from aiokafka import AIOKafkaProducer
from PIL import Image
from playwright.async_api import Browser, Page, expect

from streams.demo.catalogue import CATALOGUE, read_products
from tests.docs.test_claims import ROOT
from tests.kafka.broker import KafkaBroker
from tests.kafka.browser import open_browser, open_page
from tests.kafka.shop import Shop
from tests.kafka.system import System, picture_server, wait_until

FOLDER = ROOT / "docs" / "page"
MOST = 150_000  # bytes of a picture
SIZES = {"": (1280, 860), "-phone": (390, 844)}
EDGES = {"-narrow": (360, 740), "-wide": (2560, 1300)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
BAG = [
    ("white-instant-camera", "view"), ("tan-leather-sofa", "view"), ("twin-lens-reflex-camera", "purchase"),
    ("reflex-camera-on-a-tripod", "view"), ("pink-orchid", "cart"), ("compact-digital-camera", "purchase"),
    ("wireless-mouse", "view"), ("slim-aluminium-laptop", "cart"), ("orange-skipping-rope", "return"),
    ("spider-plant-in-a-red-pot", "purchase"),
]  # fmt: skip
SETTLED = """async () => {
    scrollTo(0, 0);
    const isSettled = () =>
        [...document.images].every((one) => one.complete || one.getBoundingClientRect().top > innerHeight) &&
        document.getAnimations().every((one) => one.playState === 'finished');
    while (!isSettled()) await new Promise(requestAnimationFrame);
}"""
TIMEOUT = 120_000  # milliseconds until a screen is complete
RATE = 12  # events per second
LATER = 60.0  # seconds of events until the charts are drawn
REFUSED = [b'{"user_id": "cleo", "type"', b"\xff\x00\x01 not JSON", b'{"user_id": "bruno", "type": "purchase"}']
TRIED = ["tan-leather-sofa.jpg", "potted-red-tulips.jpg", "yellow-conference-chair.jpg"]


async def shopper(page: Page) -> None:
    """A shopper whose last event changed the order of the categories."""
    await page.goto("/#/shopper/ada")
    await expect(page.locator("taste-bag li")).to_have_count(len(BAG))


async def try_it(page: Page) -> None:
    """Three pictures."""
    await page.goto("/#/try")
    files = [CATALOGUE / name for name in TRIED]
    await page.locator("picture-picker input").first.set_input_files(files)
    await expect(page.locator(".tried .badge").last).to_be_visible()


async def catalogue(page: Page) -> None:
    """The newest items, with the tastes that they meet."""
    await page.goto("/#/catalogue")
    await expect(page.locator("catalogue-screen .progress")).to_contain_text("A sample of")


async def now(page: Page) -> None:
    """What the system does."""
    await page.goto("/#/now")
    await expect(page.locator("now-screen tbody tr").first).to_be_visible()
    await expect(page.locator(".reasons li").first).to_be_visible()


async def letters(page: Page) -> None:
    """A dead letter with its bytes, and what would be sent again."""
    await page.goto("/#/letters")
    await page.locator(".letters > li", has_text="invalid_json").first.get_by_text("Look at the bytes").click()
    await expect(page.get_by_role("group", name="Value").first).to_be_visible()
    await page.get_by_role("button", name="Choose all").click()
    await page.get_by_role("button", name="What would be sent?").click()
    await expect(page.locator("taste-redrive .told")).to_contain_text("would be sent again")


async def model(page: Page) -> None:
    """The bundle, with a task's figures open."""
    await page.goto("/#/model")
    await page.locator(".figures summary").first.click()


SCREENS: dict[str, Callable[[Page], Awaitable[None]]] = {
    "shopper": shopper,
    "try": try_it,
    "catalogue": catalogue,
    "letters": letters,
    "model": model,
    "now": now,
}


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Shop]:
    """A shop with a catalogue and a shopper, on real Kafka."""
    with KafkaBroker(folder / "kafka") as broker, picture_server(CATALOGUE) as base:
        shop = Shop(System(broker, folder), base)
        try:
            shop.start("embed", "profile", "serve")
            await fill(shop)
            yield shop
        finally:
            shop.stop()


async def fill(shop: Shop) -> None:
    """Write the catalogue and the events, and wait until the serve worker has them."""
    system, products = shop.system, read_products()
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for number, product in enumerate(products.values()):
            item = {
                "image_url": f"{shop.base}/{product.file}", "title": product.name, "categories": [product.category],
                "price": 12.5 + 17 * number % 240, "currency": "EUR", "in_stock": number % 7 != 3,
            }  # fmt: skip
            await producer.send_and_wait("items", json.dumps(item).encode(), key=product.item_id.encode())
    now = int(time.time() * 1000)
    for number, (item_id, kind) in enumerate(BAG):
        event = shop.event("ada", products[item_id].file, number, kind)
        await system.produce([{**event, "item_id": item_id, "timestamp": now - 61_000 * (len(BAG) - number)}])
    lost = [
        {**shop.event("dora", "gone.jpg", 900 + number), "image_url": f"{shop.base}/gone-{number}.jpg"}
        for number in range(3)
    ]
    await system.produce([*REFUSED, *lost])
    wait_until(lambda: len(shop.ask("/v1/users/ada")[1].get("items", [])) == len(BAG), 60, system.log)
    wait_until(lambda: len(shop.ask("/v1/items?n=48")[1]["items"]) >= min(48, len(products)), 60, system.log)


async def keep_busy(shop: Shop) -> None:
    """Write events of other shoppers until it is cancelled."""
    pictures = sorted(path.name for path in CATALOGUE.glob("*.jpg"))
    for start in count(1000, RATE):
        events = [
            shop.event(f"user-{n * 7 % 97}", pictures[n * 13 % len(pictures)], n, "view")
            for n in range(start, start + RATE)
        ]
        await shop.system.produce(events, rate=RATE)


async def draw(
    browser: Browser, base: str, folder: Path, sizes: Mapping[str, tuple[int, int]], screens: Sequence[str]
) -> None:
    """Draw screens."""
    for name in screens:
        open_screen = SCREENS[name]
        for suffix, (width, height) in sizes.items():
            for scheme in SCHEMES:
                options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
                async with open_page(browser, base, **options) as watched:
                    await open_screen(watched.page)
                    await settled(watched.page)
                    save(await watched.page.screenshot(), folder / f"{name}{suffix}-{scheme}.webp")


async def settled(page: Page) -> None:
    """Wait until pictures in sight have loaded and nothing moves."""
    await page.evaluate(SETTLED)


def save(content: bytes, path: Path) -> None:
    """Write a screenshot as WebP of at most `MOST` bytes."""
    quality = 88
    while True:
        packed = io.BytesIO()
        Image.open(io.BytesIO(content)).save(packed, "WEBP", quality=quality, method=6)
        if packed.tell() <= MOST:
            break
        quality -= 8
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())
    sys.stdout.write(f"wrote {path}, {packed.tell()} bytes\n")


async def main(folder: Path, screens: Sequence[str]) -> None:
    """Start everything, draw, stop everything."""
    expect.set_options(timeout=TIMEOUT)
    with tempfile.TemporaryDirectory(prefix="tastestream-screenshots-") as temporary:
        async with running(Path(temporary)) as shop, open_browser() as browser:
            busy = asyncio.create_task(keep_busy(shop))
            await asyncio.sleep(LATER)
            sizes = SIZES if folder == FOLDER else SIZES | EDGES
            await draw(browser, f"http://127.0.0.1:{shop.system.ports['serve']}", folder, sizes, screens)
            busy.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, sys.argv[2:] or list(SCREENS)))
