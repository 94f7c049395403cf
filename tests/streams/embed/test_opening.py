"""What is opened for pictures is closed with them, whatever is under way."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

from aiohttp import web

from model.bundle import Bundle
from streams.embed.opening import open_embedding_cache
from streams.settings import read_settings
from tests.streams.web.servers import serving


async def test_no_flight_outlives_what_it_uses(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def broken(_: web.BaseRequest) -> web.Response:
        asked.set()
        return web.Response(status=503)

    settings = read_settings(fetch_allow_networks=(ip_network("127.0.0.0/8"),), fetch_attempts=100)
    async with serving(broken) as url:
        async with open_embedding_cache(settings, Bundle.load(), tmp_path) as pictures:
            waiting = asyncio.create_task(pictures.embedding(f"{url}/1"))
            async with asyncio.timeout(10):
                await asked.wait()
            waiting.cancel()
        assert [task for task in asyncio.all_tasks() if "Pictures" in repr(task)] == []
