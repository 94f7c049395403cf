"""Answers of name servers are filtered, the environment's proxy is ignored, and connections are limited.

`test_hostile_urls` has the addresses that a fetch never calls.
"""

import asyncio
from ipaddress import ip_network

import pytest
from aiohttp import web

from streams.embed.opening import new_fetcher
from streams.settings import read_settings
from streams.web.addresses import AddressPolicy
from streams.web.fetch import Fetcher
from streams.web.guards import AddressRefused, GuardedResolver, NameResolver
from streams.web.limits import FetchLimits
from tests.streams.web.servers import IPV6, LOOPBACK, ONLY_2, PICTURE, Answers, canary, failure, picture, serving, to


async def test_the_resolver_returns_only_permitted_addresses() -> None:
    resolver = GuardedResolver(Answers(["10.0.0.1", "127.0.0.2", "::1"], ["10.0.0.1"], []), ONLY_2)
    assert [found["host"] for found in await resolver.resolve("shop.example", 80)] == ["127.0.0.2"]
    with pytest.raises(AddressRefused, match=r"shop\.example resolves to 10\.0\.0\.1: none is a public address"):
        await resolver.resolve("shop.example", 80)
    with pytest.raises(AddressRefused, match=r"shop\.example resolves to no address"):
        await resolver.resolve("shop.example", 80)


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with canary() as bird:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{bird.port}")
        async with serving(picture, "127.0.0.2") as url, Fetcher(policy=ONLY_2) as fetcher:
            assert await fetcher.fetch(url) == PICTURE
        assert bird.connections == 0


async def test_the_resolver_resolves_localhost() -> None:
    resolver = NameResolver(timeout=5)
    assert "127.0.0.1" in [found["host"] for found in await resolver.resolve("localhost", 80)]
    await resolver.close()


# Ports


async def test_a_name_in_an_allowed_network_may_use_any_port() -> None:
    async with serving(picture, "127.0.0.2") as url, Fetcher(policy=ONLY_2, resolver=Answers(["127.0.0.2"])) as fetcher:
        assert await fetcher.fetch(url) == PICTURE
        assert await fetcher.fetch(url.replace("127.0.0.2", "cdn.example")) == PICTURE


@pytest.mark.parametrize("answer", [["8.8.8.8"], ["10.0.0.1", "8.8.8.8"]])
async def test_a_name_outside_of_the_allowed_networks_may_not_use_any_port(answer: list[str]) -> None:
    async with Fetcher(policy=ONLY_2, resolver=Answers(answer)) as fetcher:
        failed = await failure(fetcher, "http://shop.example:6379/")
    assert (failed.reason, failed.transient) == ("port_not_allowed", False)
    assert "port 6379 is not in FETCH_PORTS (80, 443)" in str(failed)


async def test_the_socket_factory_also_refuses_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedResolver, "resolve", Answers(["8.8.8.8"]).resolve)
    async with Fetcher(policy=ONLY_2) as fetcher:
        assert (await failure(fetcher, "http://shop.example:6379/")).reason == "port_not_allowed"


# Hosts


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example:{port}/",
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://cdn.example.evil.example:{port}/",
        "http://evilcdn.example:{port}/",
        "http://below.cdn.example:{port}/",
        "http://images.example:{port}/",
        "http://evilimages.example:{port}/",
        "http://cdn.example.:{port}:{port}/",
        "http://evil.example:{port}/?cdn.example",
        "http://evil.example:{port}#cdn.example",
    ],
)
async def test_a_host_that_is_not_allowed_is_not_called_even_after_a_redirect(url: str) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return to(hostile)

    with canary() as bird:
        hostile = url.replace("{port}", str(bird.port))
        policy = AddressPolicy(LOOPBACK.allow_networks, allow_hosts=("cdn.example", ".images.example", "127.0.0.2"))
        async with (
            serving(handler, "127.0.0.2") as redirecting,
            Fetcher(policy=policy, resolver=Answers(["127.0.0.1"])) as fetcher,
        ):
            failures = [await failure(fetcher, hostile), await failure(fetcher, redirecting)]
        assert bird.connections == 0
    expected = "url_invalid" if url.count("{port}") == 2 else "host_not_allowed"
    assert [(failed.reason, failed.transient) for failed in failures] == [(expected, False)] * 2


@pytest.mark.parametrize("host", ["cdn.example", "CDN.Example.", "a.images.example", "a.b.images.example"])
async def test_an_allowed_host_is_called_if_its_address_is_permitted(host: str) -> None:
    hosts = ("cdn.example", ".images.example")
    resolver = Answers(["127.0.0.2"])
    async with serving(picture, "127.0.0.2") as address:
        url = address.replace("127.0.0.2", host)
        async with Fetcher(
            policy=AddressPolicy(ONLY_2.allow_networks, allow_hosts=hosts), resolver=resolver
        ) as fetcher:
            assert await fetcher.fetch(url) == PICTURE
        port = int(url.rpartition(":")[2])
        async with Fetcher(policy=AddressPolicy(ports=(port,), allow_hosts=hosts), resolver=resolver) as fetcher:
            assert (await failure(fetcher, url)).reason == "address_not_public"


# From the settings


async def test_the_settings_configure_the_fetcher() -> None:
    agents: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        agents.append(request.headers["User-Agent"])
        return web.Response(body=bytes(2000))

    async with serving(handler, "127.0.0.2") as url:
        inside = read_settings(
            fetch_allow_networks=(ip_network("127.0.0.2"),), fetch_allow_hosts=("127.0.0.2",), fetch_user_agent="shop/1"
        )
        async with new_fetcher(inside) as fetcher:
            assert len(await fetcher.fetch(url)) == 2000
            assert (await failure(fetcher, "http://8.8.8.8/")).reason == "host_not_allowed"
        async with new_fetcher(inside.model_copy(update={"fetch_max_bytes": 1999})) as fetcher:
            assert (await failure(fetcher, url)).reason == "picture_too_many_bytes"
        async with new_fetcher(read_settings(fetch_ports=(8443,))) as fetcher:
            assert (await failure(fetcher, "http://8.8.8.8/")).reason == "port_not_allowed"
        async with new_fetcher(read_settings(fetch_proxy=url)) as fetcher:
            assert len(await fetcher.fetch("http://8.8.8.8/")) == 2000
    assert agents[0] == "shop/1"
    assert agents[-1] == read_settings().fetch_user_agent


# Connections


@pytest.mark.skipif(not IPV6, reason="this machine has no IPv6")
async def test_a_picture_is_fetched_over_ipv6() -> None:
    async with serving(picture, "::1") as url:
        port = url.rpartition(":")[2]
        permitted = AddressPolicy((ip_network("::1/128"),))
        async with Fetcher(policy=permitted, resolver=Answers(["127.0.0.1", "::1"])) as fetcher:
            assert await fetcher.fetch(url) == PICTURE
            assert await fetcher.fetch(f"http://six.example:{port}/") == PICTURE
        async with Fetcher(policy=LOOPBACK, resolver=Answers(["::1"])) as fetcher:
            assert (await failure(fetcher, url)).reason == "address_not_public"
            assert (await failure(fetcher, f"http://six.example:{port}/")).reason == "address_not_public"


async def test_connections_are_reused() -> None:
    peers: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.Response:
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
async def test_the_number_of_concurrent_requests_is_limited(limits: FetchLimits, hosts: int) -> None:
    now = most = 0

    async def handler(_: web.BaseRequest) -> web.Response:
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
