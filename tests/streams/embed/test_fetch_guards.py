"""A fetch calls nobody whom the policy does not permit, and holds no more connections than it may.

Three guards stand in a row, and each is tested where it stands alone. A canary is a server that nobody may call.
"""

import asyncio

import pytest
from aiohttp import web

from streams.embed.fetch import AddressRefused, Fetcher, FetchLimits, GuardedResolver, ThreadedResolver
from tests.streams.embed.servers import LOOPBACK, ONLY_2, PICTURE, Answers, canary, failure, picture, serving, to


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


async def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    async with canary("127.0.0.1") as bird:
        hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0", "localhost"]

        async def handler(request: web.BaseRequest) -> web.Response:
            return to(f"http://{hosts[int(request.path.strip('/'))]}:{bird.port}/")

        async with serving(handler, "127.0.0.2") as url, Fetcher(policy=ONLY_2) as fetcher:
            for number in range(len(hosts)):
                failed = await failure(fetcher, f"{url}/{number}")
                assert (failed.reason, failed.transient) == ("address_not_public", False), hosts[number]
                assert url in str(failed)
        assert not bird.connections


async def test_a_name_whose_address_changes_to_a_private_one() -> None:
    async def redirect(request: web.BaseRequest) -> web.Response:
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
async def test_so_many_requests_at_once_and_no_more(limits: FetchLimits, hosts: int) -> None:
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
