"""A fetch is bounded in time, bytes, redirects and connections, and calls nobody whom the policy does not permit.

The servers are real ones on addresses of 127.0.0.0/8. A canary is a server that nobody may call.
"""

import asyncio
import gzip
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from streams.embed.addresses import AddressPolicy
from streams.embed.fetch import AddressRefused, Fetcher, FetchLimits, GuardedResolver, ThreadedResolver
from streams.exceptions import FetchError

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
ONLY_2 = AddressPolicy((ip_network("127.0.0.2/32"),))
PICTURE = b"\xff\xd8 not really a picture \xff\xd9"
SMALL = FetchLimits(max_bytes=1000, connect_timeout=0.5, idle_timeout=0.4, total_timeout=1.0)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, address: str = "127.0.0.1") -> AsyncIterator[str]:
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
async def canary(address: str = "127.0.0.1") -> AsyncIterator[Canary]:
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


async def picture(_: web.Request) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/jpeg")


# What comes back


async def test_a_picture_is_fetched() -> None:
    async with serving(picture) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert await fetcher.fetch(f"{url}/a.jpg") == PICTURE


async def test_the_server_learns_nothing_but_the_path_and_who_asks() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        response = web.Response(body=PICTURE)
        response.set_cookie("follow", "me")
        return response

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        await fetcher.fetch(f"{url}/a.jpg?w=1#part")
        await fetcher.fetch(f"{url}/b.jpg")
    assert [r.raw_path for r in seen] == ["/a.jpg?w=1", "/b.jpg"]
    assert set(seen[1].headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}
    assert seen[1].headers["User-Agent"].startswith("tastestream/")


async def test_a_compressed_answer_is_decompressed() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(PICTURE), headers={"Content-Encoding": "gzip"})

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert await fetcher.fetch(url) == PICTURE


@pytest.mark.parametrize(
    ("status", "transient"),
    [(404, False), (403, False), (410, False), (304, False), (408, True), (429, True), (500, True), (503, True)],
)
async def test_a_status_that_is_no_success_is_named(status: int, transient: bool) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"{url}/a.jpg")
    assert (failed.reason, failed.transient) == ("http_status", transient)
    assert str(status) in str(failed) and f"{url}/a.jpg" in str(failed)


@pytest.mark.parametrize("status", [200, 204])
async def test_an_empty_body_is_no_picture(status: int) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("empty_body", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_an_answer_that_breaks_off_or_is_no_http_is_a_failure_that_may_heal(answer: bytes) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, Fetcher(SMALL, LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert (failed.reason, failed.transient) == ("response_broken", True)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"http://127.0.0.1:{port}/")
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


async def test_a_name_that_does_not_exist() -> None:
    async with Fetcher() as fetcher:
        failed = await failure(fetcher, "http://nowhere.invalid/")
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


async def test_a_server_that_closes_without_a_word() -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, Fetcher(SMALL, LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


# Redirects


def to(location: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


async def test_redirects_are_followed_up_to_the_limit() -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        return to(f"/{left - 1}", 301 + left % 2) if left else web.Response(body=PICTURE)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert await fetcher.fetch(f"{url}/3") == PICTURE
        failed = await failure(fetcher, f"{url}/4")
    assert (failed.reason, failed.transient) == ("too_many_redirects", False)


async def test_a_redirect_loop_ends() -> None:
    asked = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return to("/again")

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "too_many_redirects"
    assert asked == FetchLimits().max_redirects + 1


async def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    async with canary("127.0.0.1") as bird:
        hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0", "localhost"]

        async def handler(request: web.Request) -> web.Response:
            return to(f"http://{hosts[int(request.path.strip('/'))]}:{bird.port}/")

        async with serving(handler, "127.0.0.2") as url, Fetcher(policy=ONLY_2) as fetcher:
            for number in range(len(hosts)):
                failed = await failure(fetcher, f"{url}/{number}")
                assert (failed.reason, failed.transient) == ("address_not_public", False), hosts[number]
                assert url in str(failed)
        assert not bird.connections


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "url_scheme"),
        ("ftp://a.example/", "url_scheme"),
        ("http://[]@/", "url_invalid"),
        ("http://[::1", "url_invalid"),
        ("http://ann:hush@127.0.0.1/", "url_invalid"),
        ("/" + "x" * 3000, "url_invalid"),
    ],
)
async def test_a_redirect_has_to_pass_what_a_url_has_to_pass(location: str, reason: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return to(location)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert failed.reason == reason
    assert "redirected" in str(failed)


# Bytes


@pytest.mark.parametrize(("size", "reason"), [(1000, None), (1001, "picture_too_many_bytes")])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_be_as_long_as_the_limit(size: int, reason: str | None, announced: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if announced:
            return web.Response(body=bytes(size))
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(size):
            await response.write(b"x")
        return response

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        if reason is None:
            assert len(await fetcher.fetch(url)) == size
        else:
            failed = await failure(fetcher, url)
            assert (failed.reason, failed.transient) == (reason, False)


async def test_an_announced_length_over_the_limit_is_refused_before_the_body_comes() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1001"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert failed.reason == "picture_too_many_bytes"
    assert "1001 bytes announced" in str(failed)


async def test_a_decompression_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=9)  # 200 MB in 200 kB

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    limits = FetchLimits(max_bytes=1_000_000)
    async with serving(handler) as url, Fetcher(limits, LOOPBACK) as fetcher:
        tracemalloc.start()
        try:
            failed = await failure(fetcher, url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert failed.reason == "picture_too_many_bytes"
    assert peak < 8_000_000


# Time


async def test_a_server_that_says_nothing() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        start = time.monotonic()
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert time.monotonic() - start < SMALL.total_timeout


async def test_a_server_that_drips() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(600):
            await response.write(b"x")
            await asyncio.sleep(0.1)
        return response

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        start = time.monotonic()
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert "took longer than 1 s" in str(failed)
    assert 0.9 < time.monotonic() - start < 3


async def test_the_time_of_redirects_adds_up() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0.35)
        return to("/again")

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "timeout"


async def test_a_server_that_takes_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.create_connection(deaf.getsockname()):
        async with Fetcher(SMALL, LOOPBACK) as fetcher:  # the queue of the listening socket is full: a SYN is dropped
            start = time.monotonic()
            failed = await failure(fetcher, f"http://127.0.0.1:{deaf.getsockname()[1]}/")
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert time.monotonic() - start < SMALL.total_timeout


async def test_a_name_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> list[object]:
        time.sleep(1)
        return []

    monkeypatch.setattr("socket.getaddrinfo", slow)
    async with Fetcher(SMALL) as fetcher:
        failed = await failure(fetcher, "http://slow.example/")
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert "slow.example was not found within 0.5 s" in str(failed)


async def test_a_cancelled_fetch_is_cancelled() -> None:
    asked = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(60)
        return web.Response()

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        task = asyncio.create_task(fetcher.fetch(url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Whom it calls: each of the three guards on its own


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:image/png;base64,AAAA", "a.jpg"])
async def test_only_http_is_spoken(url: str) -> None:
    async with Fetcher(policy=LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "url_scheme"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "0"]
)
async def test_first_guard_an_address_in_the_url(host: str) -> None:
    async with canary() as bird, Fetcher(policy=ONLY_2) as fetcher:
        failed = await failure(fetcher, f"http://{host}:{bird.port}/")
        assert not bird.connections
    assert (failed.reason, failed.transient) == ("address_not_public", False)


async def test_second_guard_a_name_that_resolves_to_a_private_address() -> None:
    async with canary() as bird, Fetcher(policy=ONLY_2) as fetcher:
        failed = await failure(fetcher, f"http://localhost:{bird.port}/")
        assert not bird.connections
    assert (failed.reason, failed.transient) == ("address_not_public", False)
    assert "localhost resolves to 127.0.0.1" in str(failed)


async def test_second_guard_permitted_addresses_are_left() -> None:
    resolver = GuardedResolver(Answers(["10.0.0.1", "127.0.0.2", "::1"], ["10.0.0.1"]), ONLY_2)
    assert [found["host"] for found in await resolver.resolve("shop.example")] == ["127.0.0.2"]
    with pytest.raises(AddressRefused, match=r"shop\.example resolves to 10\.0\.0\.1"):
        await resolver.resolve("shop.example")


async def test_a_name_whose_address_changes_to_a_private_one() -> None:
    async def redirect(request: web.Request) -> web.Response:
        return to(f"http://second.example:{bird.port}/") if request.path == "/" else web.Response(body=PICTURE)

    resolver = Answers(["127.0.0.2"], ["127.0.0.1"])
    async with canary() as bird, serving(redirect, "127.0.0.2") as url, Fetcher(policy=ONLY_2, resolver=resolver) as f:
        failed = await failure(f, url.replace("127.0.0.2", "first.example"))
        assert not bird.connections
    assert failed.reason == "address_not_public"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.3"]])
async def test_third_guard_the_socket_itself(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when the answer that was checked is not the one that is connected."""
    monkeypatch.setattr(GuardedResolver, "resolve", Answers(addresses).resolve)
    async with canary() as bird, Fetcher(policy=ONLY_2) as fetcher:
        failed = await failure(fetcher, f"http://rebound.example:{bird.port}/")
        assert not bird.connections
    assert (failed.reason, failed.transient) == ("address_not_public", False)


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with canary() as bird, serving(picture, "127.0.0.2") as url, Fetcher(policy=ONLY_2) as fetcher:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{bird.port}")
        assert await fetcher.fetch(url) == PICTURE
        assert not bird.connections


async def test_the_operating_systems_resolver_finds_this_host() -> None:
    resolver = ThreadedResolver(timeout=5)
    assert "127.0.0.1" in [found["host"] for found in await resolver.resolve("localhost", 80)]
    await resolver.close()


# Connections


async def test_connections_are_kept_and_used_again() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=PICTURE)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        for _ in range(5):
            await fetcher.fetch(url)
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("limits", "hosts"), [(FetchLimits(connections_per_host=3), 1), (FetchLimits(connections=3), 30)]
)
async def test_so_many_requests_at_once_and_no_more(limits: FetchLimits, hosts: int) -> None:
    now = most = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(now, most)
        await asyncio.sleep(0.02)
        now -= 1
        return web.Response(body=PICTURE)

    async with serving(handler, "0.0.0.0") as url, Fetcher(limits, LOOPBACK) as fetcher:
        urls = [url.replace("0.0.0.0", f"127.0.0.{1 + n % hosts}") for n in range(30)]
        await asyncio.gather(*(fetcher.fetch(url) for url in urls))
    assert most == 3


async def test_ever_new_hosts_do_not_pile_up_idle_connections() -> None:
    limits = FetchLimits(connections=4)
    most = 0
    async with serving(picture, "0.0.0.0") as url, Fetcher(limits, LOOPBACK) as fetcher:
        for batch in range(10):
            urls = [url.replace("0.0.0.0", f"127.0.{batch}.{n}") for n in range(1, 11)]
            await asyncio.gather(*(fetcher.fetch(url) for url in urls))
            most = max(most, fetcher.open_connections)
    assert 0 < most <= 4 * limits.connections
