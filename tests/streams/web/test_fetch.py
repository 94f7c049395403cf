"""A fetch is bounded in time, bytes and redirects, and each failure has a reason. `test_hostile_servers` has the corpus."""

import asyncio
import socket
import time

import pytest
from aiohttp import web

from streams.web.fetch import Fetcher, retry_after_seconds
from streams.web.guards import NameResolver
from streams.web.limits import FetchLimits
from tests.streams.web.servers import LOOPBACK, PICTURE, failure, name_server, picture, serving, to

SMALL = FetchLimits(max_bytes=1000)
SHORT = FetchLimits(total_timeout=0.5)
SHORT_CONNECT = FetchLimits(connect_timeout=0.3)
PATIENT = FetchLimits(connect_timeout=300, total_timeout=300)


# Responses


async def test_a_picture_is_fetched() -> None:
    async with serving(picture) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert await fetcher.fetch(f"{url}/a.jpg") == PICTURE


async def test_a_request_carries_the_path_and_the_user_agent_and_no_cookies() -> None:
    seen: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        response = web.Response(body=PICTURE)
        response.set_cookie("follow", "me")
        return response

    limits = FetchLimits(user_agent="tastestream/9 (+https://shop.example/bots)")
    async with serving(handler) as url, Fetcher(limits, LOOPBACK) as fetcher:
        await fetcher.fetch(f"{url}/a.jpg?w=1#part")
        await fetcher.fetch(f"{url}/b.jpg")
    assert [r.raw_path for r in seen] == ["/a.jpg?w=1", "/b.jpg"]
    assert set(seen[1].headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}
    assert seen[1].headers["User-Agent"] == limits.user_agent


@pytest.mark.parametrize(
    ("status", "transient"),
    [(404, False), (403, False), (410, False), (408, True), (429, True), (500, True), (503, True)],
)
async def test_an_error_status_is_reported_and_may_be_transient(status: int, transient: bool) -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"{url}/a.jpg")
    assert (failed.reason, failed.transient) == ("http_status", transient)
    assert str(status) in str(failed) and f"{url}/a.jpg" in str(failed)


async def test_a_closed_port_is_host_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"http://127.0.0.1:{port}/")
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


async def test_an_unknown_name_is_host_unreachable() -> None:
    async with Fetcher() as fetcher:
        failed = await failure(fetcher, "http://nowhere.invalid/")
    assert (failed.reason, failed.transient) == ("host_unreachable", True)


# Headers

POLICY = "default-src 'self' https://*.shop.example; "


def headers(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The headers that a path asks for: `/NAME/NUMBER/SIZE`."""
    name, number, size = request.path.strip("/").split("/")
    return [(name, (POLICY * (int(size) // len(POLICY) + 1))[: int(size)])] * int(number)


@pytest.mark.parametrize(
    "path",
    [
        "Content-Security-Policy/1/9000",
        "Set-Cookie/1/9000",
        "Set-Cookie/200/50",
        "X-Anything/1000/40",
        "Link/1/64000",
        "Permissions-Policy/8/7900",
    ],
)
@pytest.mark.parametrize("status", [200, 302])
async def test_headers_may_have_64_kilobytes_in_all(path: str, status: int) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/a.jpg":
            return web.Response(body=PICTURE)
        return web.Response(status=status, body=PICTURE, headers=[*headers(request), ("Location", "/a.jpg")])

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        for _ in range(2):
            assert await fetcher.fetch(f"{url}/{path}") == PICTURE


@pytest.mark.parametrize("path", ["Link/1/65537", "Set-Cookie/8/8192", "Set-Cookie/1024/60", "X/1025/1"])
@pytest.mark.parametrize("status", [200, 302, 503])
async def test_larger_headers_are_refused_for_good(path: str, status: int) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, body=PICTURE, headers=[*headers(request), ("Location", "/a.jpg")])

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        failed = await failure(fetcher, f"{url}/{path}")
    assert (failed.reason, failed.transient) == ("headers_too_large", False)
    assert "65536 bytes or 1024 lines" in str(failed)


async def test_each_response_of_a_connection_has_its_own_headers() -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(body=PICTURE * 50, headers={"Link": "x" * 40_000})

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        for _ in range(60):
            assert await fetcher.fetch(url) == PICTURE * 50
        assert fetcher.open_connections == 1


@pytest.mark.parametrize("size", [1, 100])
async def test_a_body_in_small_chunks_is_read(size: int) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(300_000 // size):
            await response.write(b"x" * size)
        return response

    limits = FetchLimits(max_bytes=1_000_000, total_timeout=60)
    async with serving(handler) as url, Fetcher(limits, LOOPBACK) as fetcher:
        assert len(await fetcher.fetch(url)) == 300_000


# Redirects


async def test_redirects_are_followed_up_to_the_limit() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        left = int(request.path.strip("/"))
        return to(f"/{left - 1}", 301 + left % 2) if left else web.Response(body=PICTURE)

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert await fetcher.fetch(f"{url}/3") == PICTURE
        failed = await failure(fetcher, f"{url}/4")
    assert (failed.reason, failed.transient) == ("too_many_redirects", False)


async def test_a_redirect_loop_ends_after_three_redirects() -> None:
    asked = 0

    async def handler(_: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += 1
        return to("/again")

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "too_many_redirects"
    assert asked == 1 + 3


# Bytes


@pytest.mark.parametrize(("size", "reason"), [(1000, None), (1001, "picture_too_many_bytes")])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_be_as_long_as_the_limit(size: int, reason: str | None, announced: bool) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
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


async def test_an_announced_length_over_the_limit_is_refused_before_the_body_is_read() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1001"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with serving(handler) as url, Fetcher(SMALL, LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert failed.reason == "picture_too_many_bytes"
    assert "1001 bytes announced" in str(failed)


# Time


@pytest.mark.parametrize("begin", [False, True])
async def test_a_silent_server_times_out_before_the_total_timeout(begin: bool) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if begin:
            await response.prepare(request)
            await response.write(b"x")
        await asyncio.sleep(60)
        return response

    limits = FetchLimits(idle_timeout=0.2, total_timeout=60)
    async with serving(handler) as url, Fetcher(limits, LOOPBACK) as fetcher:
        start = time.monotonic()
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert time.monotonic() - start < 30


async def test_a_slow_server_hits_the_total_timeout_and_the_message_says_so() -> None:
    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3000):
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    async with serving(drip) as url, Fetcher(SHORT, LOOPBACK) as fetcher:
        start = time.monotonic()
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert "took longer than 0.5 s" in str(failed)
    assert 0.4 < time.monotonic() - start < 30  # of 60 that the server takes


async def test_the_total_timeout_covers_all_redirects() -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.2)
        return to("/again")

    async with serving(handler) as url, Fetcher(SHORT, LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "timeout"


async def test_a_server_that_accepts_no_connection_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.create_connection(deaf.getsockname()):
        async with Fetcher(
            SHORT_CONNECT, LOOPBACK
        ) as fetcher:  # the backlog of the listening socket is full, so a SYN is dropped
            start = time.monotonic()
            failed = await failure(fetcher, f"http://127.0.0.1:{deaf.getsockname()[1]}/")
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert time.monotonic() - start < SHORT_CONNECT.total_timeout


async def test_a_name_server_that_does_not_answer_times_out() -> None:
    async with name_server("127.0.0.1") as names:
        resolver = NameResolver(0.3, [names.where])
        async with Fetcher(SHORT_CONNECT, LOOPBACK, resolver) as fetcher:
            failed = await failure(fetcher, "http://hangs.example/")
    assert (failed.reason, failed.transient) == ("timeout", True)
    assert "hangs.example was not resolved within 0.3 s" in str(failed)


@pytest.mark.parametrize("hanging", [60, 250])
async def test_names_whose_look_up_hangs_do_not_delay_other_names(hanging: int) -> None:
    async with name_server("127.0.0.1") as names, serving(picture) as address:
        port = address.rpartition(":")[2]
        async with Fetcher(PATIENT, LOOPBACK, NameResolver(300, [names.where])) as fetcher:
            waiting = [asyncio.create_task(failure(fetcher, f"http://hangs-{n}.example/")) for n in range(hanging)]
            async with asyncio.timeout(60):
                while len(set(names.asked)) < hanging:
                    await asyncio.wait(waiting, timeout=0.01)
                for number in range(5):
                    assert await fetcher.fetch(f"http://shop-{number}.example:{port}/a.jpg") == PICTURE
            assert not any(task.done() for task in waiting), "they still wait for the name server"
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_name_is_found_although_the_first_question_was_lost() -> None:
    async with name_server("127.0.0.1") as names, serving(picture) as address:
        names.lost = 2  # for IPv4 and for IPv6
        async with Fetcher(policy=LOOPBACK, resolver=NameResolver(3, [names.where])) as fetcher:
            assert await fetcher.fetch(address.replace("127.0.0.1", "shop.example")) == PICTURE
    assert names.lost == 0


async def test_a_name_that_takes_long_is_found_although_others_are_fast() -> None:
    async with (
        name_server("127.0.0.1") as names,
        serving(picture) as address,
        Fetcher(policy=LOOPBACK, resolver=NameResolver(3, [names.where])) as fetcher,
    ):
        for number in range(20):
            assert await fetcher.fetch(address.replace("127.0.0.1", f"shop-{number}.example")) == PICTURE
        names.delay = 2.2
        assert await fetcher.fetch(address.replace("127.0.0.1", "slow.example")) == PICTURE


async def test_answers_of_a_name_server_are_checked_as_any_others() -> None:
    async with (
        name_server("10.0.0.1", "127.0.0.1") as names,
        Fetcher(resolver=NameResolver(3, [names.where])) as fetcher,
    ):
        for number in range(2):
            assert (await failure(fetcher, f"http://shop-{number}.example/")).reason == "address_not_public"


async def test_a_cancelled_fetch_stops() -> None:
    asked = asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.Response:
        asked.set()
        await asyncio.sleep(60)
        return web.Response()

    async with serving(handler) as url, Fetcher(policy=LOOPBACK) as fetcher:
        task = asyncio.create_task(fetcher.fetch(url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 30.0),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 0.0),  # in the past
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("\u00b2", 0.0),  # a digit for Python, but not for HTTP
        ("Thu, 01 Jan 99999 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, now=60.0) == seconds


@pytest.mark.parametrize("status", [429, 503])
async def test_the_error_carries_the_retry_after_of_the_response(status: int) -> None:
    async def busy(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with serving(busy) as url, Fetcher(policy=LOOPBACK) as fetcher:
        error = await failure(fetcher, url)
    assert (error.reason, error.transient, error.retry_after) == ("http_status", True, 7.0)


async def test_the_time_before_the_body_is_read_does_not_count() -> None:
    async with (
        serving(picture) as url,
        Fetcher(FetchLimits(total_timeout=1.5), LOOPBACK) as fetcher,
        fetcher.stream(url) as response,
    ):
        await asyncio.sleep(1.6)
        assert await response.read() == PICTURE
