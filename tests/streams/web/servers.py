"""Real local servers, and resolvers with given answers, for the tests of fetching."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from ssl import SSLContext
from typing import cast

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.exceptions import FetchError
from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
ONLY_2 = AddressPolicy((ip_network("127.0.0.2/32"),))
PICTURE = b"\xff\xd8 not really a picture \xff\xd9"

IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists() and "lo" in Path("/proc/net/if_inet6").read_text()

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    handler: Handler, address: str = "127.0.0.1", tls: SSLContext | None = None
) -> AsyncGenerator[str, None]:
    """A server that passes every request to `handler`. Gives its URL, without a slash at the end."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, 0, ssl_context=tls)
        await site.start()
        host = f"[{address}]" if ":" in address else address
        yield f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(talk: Talk, address: str = "127.0.0.1") -> AsyncGenerator[str, None]:
    """A TCP server that passes every connection to `talk` until the block ends. Gives its URL."""
    talks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, address, 0)
    try:
        yield f"http://{address}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@dataclass
class Canary:
    """Listening sockets that no test may connect to. They never answer."""

    port: int
    sockets: list[socket.socket]
    accepted: int = 0

    @property
    def connections(self) -> int:
        """How many clients have connected so far. The kernel queues even a connection that is closed again at once."""
        for listening in self.sockets:
            while True:
                try:
                    connection, _ = listening.accept()
                except BlockingIOError:
                    break
                connection.close()
                self.accepted += 1
        return self.accepted


@contextmanager
def canary() -> Generator[Canary, None, None]:
    """A canary on 127.0.0.1 and, if there is IPv6, on the same port of ::1."""
    bird = Canary(0, [])
    try:
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))[: 1 + IPV6]:
            listening = socket.create_server((address, bird.port), family=family, backlog=128)
            listening.setblocking(False)
            bird.sockets.append(listening)
            bird.port = listening.getsockname()[1]
        yield bird
    finally:
        for listening in bird.sockets:
            listening.close()


class Answers(AbstractResolver):
    """A resolver that returns one list of addresses after another, whatever the name, and then repeats the last."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class NameServer(asyncio.DatagramProtocol):
    """A name server. It gives `addresses` in turn, then repeats the last, and ignores names that begin with `hangs`."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked: list[str] = []  # the names whose IPv4 address was asked for
        self.where = ""  # address and port
        self.lost = 0  # how many more questions get lost
        self.delay = 0.0  # seconds between the first question for a name and the answers, as if others have to be asked
        self._first: dict[bytes, float] = {}  # when a question was asked first
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question, kind = data[12 : at + 5], int.from_bytes(data[at + 1 : at + 3])
        if kind == 1:
            self.asked.append(".".join(labels))
        if self.lost or labels[0].startswith("hangs"):
            self.lost = max(0, self.lost - 1)
            return
        answer = b""
        if kind == 1:  # A; other types, such as AAAA, have no record
            address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
            answer = b"\xc0\x0c\x00\x01\x00\x01" + bytes(4) + b"\x00\x04" + ip_address(address).packed
        header = data[:2] + b"\x81\x80\x00\x01" + bytes([0, bool(answer)]) + bytes(4)
        loop = asyncio.get_running_loop()
        first = self._first.setdefault(question, loop.time())
        loop.call_at(first + self.delay, self._transport.sendto, header + question + answer, addr)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncGenerator[NameServer]:
    """A real name server on 127.0.0.1."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(*addresses), ("127.0.0.1", 0)
    )
    server.where = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    try:
        yield server
    finally:
        transport.close()


async def failure(fetcher: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await fetcher.fetch(url)
    return failed.value


async def picture(_: web.BaseRequest) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/jpeg")


def to(location: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": location})
