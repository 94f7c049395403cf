"""Servers for the tests of fetching: real ones, on addresses of 127.0.0.0/8, and name servers that say as told."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.embed.addresses import AddressPolicy
from streams.embed.fetch import Fetcher
from streams.exceptions import FetchError

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
ONLY_2 = AddressPolicy((ip_network("127.0.0.2/32"),))
PICTURE = b"\xff\xd8 not really a picture \xff\xd9"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, address: str = "127.0.0.1") -> AsyncGenerator[str, None]:
    """A server that gives every request to `handler`; its URL, without a slash at the end."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, 0)
        await site.start()
        yield f"http://{address}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Canary:
    port: int
    connections: list[object] = field(default_factory=list[object])


@asynccontextmanager
async def canary(address: str = "127.0.0.1") -> AsyncGenerator[Canary, None]:
    """Listens, and counts who connects, whether or not a request follows."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bird.connections.append(writer.get_extra_info("peername"))
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        writer.close()

    bird = Canary(0)
    server = await asyncio.start_server(connected, address, 0)
    bird.port = server.sockets[0].getsockname()[1]
    try:
        yield bird
    finally:
        server.close()


class Answers(AbstractResolver):
    """Gives one list of addresses after another, whatever the name; the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=a, port=port, family=socket.AF_INET, proto=6, flags=0) for a in addresses
        ]

    async def close(self) -> None:
        pass


async def failure(fetcher: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await fetcher.fetch(url)
    return failed.value


async def picture(_: web.BaseRequest) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/jpeg")


def to(location: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": location})
