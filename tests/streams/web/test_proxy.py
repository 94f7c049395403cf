"""Behind a proxy, the URL and the addresses of its name are checked before each request, also after a redirect.

The proxy of these tests is at 127.0.0.3, which the policy does not permit. Only the setting makes it reachable.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from yarl import URL

from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher
from streams.web.guards import OnlyProxy
from streams.web.limits import FetchLimits
from tests.streams.web.servers import ONLY_2, PICTURE, Answers, canary, failure, talking

PATIENT = FetchLimits(connect_timeout=60, idle_timeout=60, total_timeout=60)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE


@asynccontextmanager
async def proxying(answer: bytes = OK) -> AsyncGenerator[tuple[str, list[str]], None]:
    """A proxy that answers every request alike. Gives its URL, and the first line of each request."""
    asked: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        writer.write(answer)
        await writer.drain()

    async with talking(talk, "127.0.0.3") as url:
        yield url, asked


async def test_a_picture_is_fetched_through_the_proxy() -> None:
    async with (
        proxying() as (proxy, asked),
        Fetcher(PATIENT, resolver=Answers(["8.8.8.8", "1.1.1.1"]), proxy=proxy) as fetcher,
    ):
        assert await fetcher.fetch("http://shop.example/a.jpg") == PICTURE
        assert await fetcher.fetch("http://8.8.8.8/b.jpg") == PICTURE
    assert asked == ["GET http://shop.example/a.jpg HTTP/1.1", "GET http://8.8.8.8/b.jpg HTTP/1.1"]


async def test_https_uses_a_tunnel_that_the_proxy_may_refuse() -> None:
    forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    resolver = Answers(["8.8.8.8"])
    async with proxying(forbidden) as (proxy, asked), Fetcher(PATIENT, resolver=resolver, proxy=proxy) as fetcher:
        failed = await failure(fetcher, "https://shop.example/a.jpg")
    assert asked == ["CONNECT shop.example:443 HTTP/1.1"]
    assert failed.reason == "response_broken"
    assert "403" in str(failed)


@pytest.mark.parametrize(
    ("url", "answer", "reason"),
    [
        ("http://127.0.0.1/", ["8.8.8.8"], "address_not_public"),
        ("http://2130706433/", ["8.8.8.8"], "address_not_public"),
        ("https://[::1]/", ["8.8.8.8"], "address_not_public"),
        ("http://inside.example/", ["10.0.0.1"], "address_not_public"),
        ("https://inside.example/", ["169.254.169.254"], "address_not_public"),
        ("http://mixed.example/", ["8.8.8.8", "10.0.0.1"], "address_not_public"),
        ("http://shop.example:6379/", ["8.8.8.8"], "port_not_allowed"),
        ("{proxy}/", ["8.8.8.8"], "address_not_public"),
        ("http://proxy.example/", ["127.0.0.3"], "address_not_public"),
    ],
)
@pytest.mark.parametrize("redirected", [False, True])
async def test_the_proxy_is_not_asked_for_internal_addresses(
    url: str, answer: list[str], reason: str, redirected: bool
) -> None:
    start = "http://8.8.8.8/"
    async with proxying() as (proxy, _):
        location = url.replace("{proxy}", proxy)
    moved = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
    async with (
        proxying(moved.encode()) as (proxy, asked),
        Fetcher(PATIENT, resolver=Answers(answer), proxy=proxy) as fetcher,
    ):
        failed = await failure(fetcher, start if redirected else location)
    assert (failed.reason, failed.transient) == (reason, False)
    assert asked == [f"GET {start} HTTP/1.1"] * redirected


async def test_the_proxy_may_be_asked_for_any_port_in_an_allowed_network() -> None:
    async with (
        proxying() as (proxy, asked),
        Fetcher(PATIENT, ONLY_2, resolver=Answers(["127.0.0.2"]), proxy=proxy) as fetcher,
    ):
        assert await fetcher.fetch("http://cdn.example:6379/a.jpg") == PICTURE
    assert asked == ["GET http://cdn.example:6379/a.jpg HTTP/1.1"]


async def test_the_proxy_is_not_asked_for_a_host_that_is_not_allowed() -> None:
    async with proxying() as (proxy, asked):
        policy = AddressPolicy(allow_hosts=("cdn.example",))
        async with Fetcher(PATIENT, policy, resolver=Answers(["8.8.8.8"]), proxy=proxy) as fetcher:
            assert (await failure(fetcher, "http://other.example/")).reason == "host_not_allowed"
    assert asked == []


async def test_no_other_server_is_called_when_the_proxy_is_down() -> None:
    async with proxying() as (down, _):
        pass
    with canary() as bird:
        policy = AddressPolicy((*ONLY_2.allow_networks,), ports=(bird.port,))
        async with Fetcher(PATIENT, policy, resolver=Answers(["127.0.0.2"]), proxy=down) as fetcher:
            failed = await failure(fetcher, f"http://cdn.example:{bird.port}/")
        assert bird.connections == 0
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


async def test_the_proxy_is_not_asked_for_a_name_that_does_not_resolve_here() -> None:
    async with proxying() as (proxy, asked), Fetcher(PATIENT, proxy=proxy) as fetcher:
        failed = await failure(fetcher, "http://nowhere.invalid/")
    assert (failed.reason, failed.transient, asked) == ("host_unreachable", True, [])


async def test_only_the_proxy_is_resolved_and_connected() -> None:
    only = OnlyProxy(Answers(["10.0.0.9"]), URL("http://proxy.example:3128"))
    assert only.refusal(ip_address("10.0.0.9"), 3128) is not None  # not resolved yet
    await only.resolve("proxy.example", 3128)
    assert only.refusal(ip_address("10.0.0.9"), 3128) is None
    for address, port in [("10.0.0.9", 80), ("10.0.0.8", 3128), ("8.8.8.8", 80)]:
        assert only.refusal(ip_address(address), port) is not None
    with pytest.raises(OSError, match="is not the proxy"):
        await only.resolve("shop.example", 80)
