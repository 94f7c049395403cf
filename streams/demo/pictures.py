"""A web server on 127.0.0.1 for the photos of the demo."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from streams.demo.catalogue import CATALOGUE


@asynccontextmanager
async def picture_server() -> AsyncGenerator[str]:
    """Serve the photos of the catalogue. Gives the URL of their folder."""
    server = web.Application()
    server.router.add_static("/pictures", CATALOGUE)
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/pictures"
    finally:
        await runner.cleanup()
