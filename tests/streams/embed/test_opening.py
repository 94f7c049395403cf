"""Closing the cache closes all that was opened for it, even while fetches are in flight."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.embed.opening import open_embedding_cache
from streams.exceptions import FetchError
from streams.settings import read_settings
from tests.model.unbounded_pictures import avif_of_items
from tests.streams.web.servers import serving


async def test_closing_the_cache_ends_all_fetches(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def broken(_: web.BaseRequest) -> web.Response:
        asked.set()
        return web.Response(status=503)

    settings = read_settings(fetch_allow_networks=(ip_network("127.0.0.0/8"),), fetch_attempts=100)
    async with serving(broken) as url:
        async with open_embedding_cache(settings, Bundles(Bundle.load()), tmp_path) as cache:
            waiting = asyncio.create_task(cache.codes(f"{url}/1"))
            async with asyncio.timeout(60):
                await asked.wait()
            waiting.cancel()
        assert [task for task in asyncio.all_tasks() if "EmbeddingCache" in repr(task)] == []


async def test_a_picture_that_would_decode_for_minutes_fails_by_the_settings(tmp_path: Path) -> None:
    data = avif_of_items("iloc", 150_000)

    async def hostile(_: web.BaseRequest) -> web.Response:
        return web.Response(body=data)

    settings = read_settings(fetch_allow_networks=(ip_network("127.0.0.0/8"),), decoder_seconds=0.5)
    async with serving(hostile) as url, open_embedding_cache(settings, Bundles(Bundle.load()), tmp_path) as cache:
        with pytest.raises(FetchError, match=r"image_url .*\(more than 0.5 s of processor time") as caught:
            await cache.codes(f"{url}/1")
    assert (caught.value.reason, caught.value.transient) == ("picture_too_costly", False)
