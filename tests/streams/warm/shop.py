"""A picture server in a thread of its own. It counts requests, and can fail or hang."""

import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web
from PIL import Image

from tests.streams.web.servers import serving


def _picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Shop:
    """/N is a picture, /text is not, and `pictures` has others by name. All other paths are a 404.

    After `patience` responses, each request hangs for a minute.
    """

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter[str])
    broken: bool = False  # then every response is a 503
    patience: int = 1_000_000
    active: int = 0  # requests being served
    max_active: int = 0
    picture: bytes = field(default_factory=_picture)
    pictures: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def urls(self, count: int, first: int = 0) -> list[str]:
        return [f"{self.url}/{number}" for number in range(first, first + count)]

    async def answer(self, request: web.BaseRequest) -> web.Response:
        name = request.path.strip("/")
        self.asked[name] += 1
        self.active += 1
        self.max_active = max(self.active, self.max_active)
        try:
            await asyncio.sleep(0.005 if self.asked.total() <= self.patience else 60)
        finally:
            self.active -= 1
        if self.broken:
            return web.Response(status=503)
        if name in self.pictures:
            return web.Response(body=self.pictures[name])
        if name.isdigit():
            return web.Response(body=self.picture)
        return web.Response(body=b"this is no picture") if name == "text" else web.Response(status=404)


@contextmanager
def open_shop() -> Generator[Shop]:
    shop = Shop()
    opened, close = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(shop.answer) as shop.url:
            opened.set()
            await asyncio.to_thread(close.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert opened.wait(60)
        yield shop
    finally:
        close.set()
        thread.join()


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds in another thread or process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
