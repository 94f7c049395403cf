"""The corpus of hostile servers: what a server may send, and how the fetch fails.

Each name is followed by what the server sends, the reason of the dead letter, and whether the failure is transient.
`test_hostile_urls` has the addresses.
"""

import asyncio
import gzip
import itertools
import socket
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from streams.web.fetch import HAS_BROTLI, Fetcher
from streams.web.limits import FetchLimits
from tests.streams.web.servers import LOOPBACK, PICTURE, Talk, failure, talking

PATIENT = FetchLimits(max_bytes=100_000)
SHORT = FetchLimits(max_bytes=100_000, connect_timeout=0.3, idle_timeout=0.2, total_timeout=0.4)
DRIP = 0.15  # seconds between two pieces that arrive too fast for the idle timeout; `tests.kafka` waits for 100 of them
OK = b"HTTP/1.1 200 OK\r\n"
ZEROS = bytes(50_000_000)


async def asked(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")


def says(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)
        await writer.drain()

    return talk


def repeats(start: bytes, again: bytes, pause: float = 0.0) -> Talk:
    """Sends `start` once and then `again` forever, with a pause in seconds before each."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(start)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return talk


def encoded(encoding: str, body: bytes) -> Talk:
    return says(OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


async def closes_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def closes_when_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asked(reader)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asked(reader)
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def never_answers(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


HOSTILE: dict[str, tuple[Talk, str, bool]] = {
    # Silence
    "closes at once": (closes_at_once, "host_unreachable", True),
    "closes when it is asked": (closes_when_asked, "host_unreachable", True),
    "resets": (resets, "host_unreachable", True),
    "never answers": (never_answers, "timeout", True),
    "stops after half a status line": (repeats(b"HTTP/1.1 20", b"", 60), "timeout", True),
    "stops after the headers": (repeats(OK + b"Content-Length: 5\r\n\r\n", b"", 60), "timeout", True),
    # A byte at a time
    "a byte a second, in the body": (repeats(OK + b"\r\n", b"x", 1), "timeout", True),
    "a byte a second, in a header": (repeats(OK + b"X: ", b"x", 1), "timeout", True),
    "drips too fast for the idle timeout": (repeats(OK + b"\r\n", b"x", DRIP), "timeout", True),
    "headers that drip": (repeats(OK, b"X: y\r\n", DRIP), "timeout", True),
    "chunks that drip": (repeats(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", DRIP), "timeout", True),
    "compressed nothing that drips": (
        repeats(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff", DRIP),
        "timeout",
        True,
    ),
    # Not HTTP
    "HTTP/0.9": (says(b"<html>hello</html>\n"), "response_broken", True),
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "response_broken", True),
    "null bytes": (says(bytes(1000)), "response_broken", True),
    "TLS in plain HTTP": (says(b"\x15\x03\x01\x00\x02\x02\x46"), "response_broken", True),
    "status that is not a number": (says(b"HTTP/1.1 abc OK\r\n\r\n"), "response_broken", True),
    "HTTP/2": (says(b"HTTP/2 200\r\n\r\n"), "response_broken", True),
    "bare line break in a header": (says(OK + b"X: a\rSet-Cookie: b\r\n\r\n"), "response_broken", True),
    "null in a header": (says(OK + b"X: a\x00b\r\nContent-Length: 1\r\n\r\nx"), "response_broken", True),
    # Headers
    "huge header": (says(OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n"), "headers_too_large", False),
    "endless header": (repeats(OK + b"X: ", b"x" * 10_000), "headers_too_large", False),
    "endless status line": (repeats(b"HTTP/1.1 200 ", b"x" * 10_000), "headers_too_large", False),
    "endless headers": (repeats(OK, b"X: y\r\n" * 100), "headers_too_large", False),
    "endless short headers": (repeats(OK, b"a:\r\n" * 1000), "headers_too_large", False),
    "many headers": (says(OK + b"X: y\r\n" * 1025 + b"\r\n"), "headers_too_large", False),
    "endless trailers": (
        repeats(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: " + b"x" * 60_000 + b"\r\n"),
        "response_broken",
        True,
    ),
    "endless interim responses": (repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10), "headers_too_large", False),
    # Length
    "announces more than it sends": (says(OK + b"Content-Length: 100\r\n\r\nshort"), "response_broken", True),
    "announces more than is allowed": (says(OK + b"Content-Length: 100001\r\n\r\n"), "picture_too_many_bytes", False),
    "announces a gigabyte": (says(OK + b"Content-Length: 1000000000\r\n\r\n"), "picture_too_many_bytes", False),
    "announces a length of 30 digits": (
        says(OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"),
        "response_broken",
        True,
    ),
    "announces a negative length": (says(OK + b"Content-Length: -1\r\n\r\nx"), "response_broken", True),
    "announces two lengths": (says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"), "response_broken", True),
    "endless body without a length": (repeats(OK + b"\r\n", b"x" * 10_000), "picture_too_many_bytes", False),
    "endless chunks": (
        repeats(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
        "picture_too_many_bytes",
        False,
    ),
    "endless chunk": (
        repeats(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", b"x" * 10_000),
        "picture_too_many_bytes",
        False,
    ),
    "chunk of more than 64 bits": (
        says(OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx"),
        "response_broken",
        True,
    ),
    "chunk with an invalid length": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n"), "response_broken", True),
    "chunks that stop early": (says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "response_broken", True),
    # Content encodings; the request asks for none
    "gzip bomb": (encoded("gzip", gzip.compress(ZEROS)), "picture_too_many_bytes", False),
    "gzip bomb in members": (encoded("gzip", gzip.compress(bytes(90_000)) * 500), "picture_too_many_bytes", False),
    "deflate bomb": (encoded("deflate", zlib.compress(ZEROS)), "picture_too_many_bytes", False),
    "deflate bomb without a header": (encoded("deflate", raw_deflate(ZEROS)), "picture_too_many_bytes", False),
    "gzip that is not gzip": (encoded("gzip", b"no gzip"), "response_broken", True),
    "gzip twice": (encoded("gzip, gzip", gzip.compress(gzip.compress(PICTURE))), "content_encoding", False),
    "gzip in two headers": (
        says(OK + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\nx"),
        "content_encoding",
        False,
    ),
    "unknown encoding": (encoded("rot13", PICTURE), "content_encoding", False),
    "encoding with control characters": (encoded("a\tb", PICTURE), "content_encoding", False),
    # Statuses
    "204, no content": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), "empty_body", False),
    "200 without a body": (says(OK + b"Content-Length: 0\r\n\r\n"), "empty_body", False),
    "206, a part that was not requested": (
        says(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\n\xff\xd8"),
        "http_status",
        False,
    ),
    "304, not modified": (says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "http_status", False),
    "300, a choice": (says(b"HTTP/1.1 300 Multiple Choices\r\nLocation: /b\r\n\r\n"), "http_status", False),
    "101, another protocol": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        "http_status",
        False,
    ),
    "status 999": (says(b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n"), "http_status", True),
    # Redirects; `test_hostile_urls` has their targets
    "redirects to itself": (says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "too_many_redirects", False),
    "redirects to nothing": (says(b"HTTP/1.1 302 Found\r\nLocation: \r\n\r\n"), "too_many_redirects", False),
    "redirects nowhere": (says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "http_status", False),
    "redirects with a control character": (
        says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1\x01/\r\n\r\n"),
        "url_invalid",
        False,
    ),
    "redirects with a tab": (
        says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0\t.0.1/\r\n\r\n"),
        "url_invalid",
        False,
    ),
    "redirects with a null": (
        says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1\x00/\r\n\r\n"),
        "response_broken",
        True,
    ),
    "redirects with a bare line break": (
        says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\rX: y\r\n\r\n"),
        "response_broken",
        True,
    ),
    "redirects to a host that is not UTF-8": (
        says(b"HTTP/1.1 302 Found\r\nLocation: http://h\xffst.example/\r\n\r\n"),
        "url_invalid",
        False,
    ),
    "redirects with bytes that are not UTF-8": (
        says(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n"),
        "too_many_redirects",
        False,
    ),
}


@pytest.mark.parametrize(("talk", "reason", "transient"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_server_fails_in_bounded_time_and_memory(talk: Talk, reason: str, transient: bool) -> None:
    limits = SHORT if reason == "timeout" else PATIENT
    async with talking(talk) as url, Fetcher(limits, LOOPBACK) as fetcher:
        tracemalloc.start()
        start = time.monotonic()
        try:
            failed = await failure(fetcher, url)
            took = time.monotonic() - start
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (failed.reason, failed.transient) == (reason, transient)
    assert took < limits.total_timeout + 30  # on a busy machine; each server that does not end goes on for 60 s or more
    assert peak < 8_000_000
    assert str(failed).isprintable()


async def test_https_to_a_plain_port_fails_as_transient() -> None:
    async with talking(says(OK + b"\r\n")) as url, Fetcher(SHORT, LOOPBACK) as fetcher:
        failed = await failure(fetcher, url.replace("http:", "https:"))
    assert failed.transient
    assert failed.reason in ("host_unreachable", "timeout")  # the server waits for a line that never ends


async def test_the_message_names_an_encoding_without_a_decoder() -> None:
    async with talking(encoded("zstd" if HAS_BROTLI else "br", b"x")) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        failed = await failure(fetcher, url)
    assert (failed.reason, failed.transient) == ("content_encoding", False)
    assert "zstd" in str(failed) or "brotli" in str(failed)


@pytest.mark.skipif(not HAS_BROTLI, reason="no brotli decoder is installed")
async def test_a_brotli_bomb_is_stopped_at_the_limit() -> None:
    bomb = pytest.importorskip("brotli").compress(ZEROS)
    async with talking(encoded("br", bomb)) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert (await failure(fetcher, url)).reason == "picture_too_many_bytes"


# Odd but valid


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Type: text/html\r\n",
        b"Content-Type: application/x-msdownload\r\n",
        b"Content-Type: \x80\xff\r\n",
        b"",
        b"Content-Disposition: attachment; filename=../../etc/passwd\r\n",
        b"Refresh: 0; url=http://127.0.0.1/\r\n",
        b"Set-Cookie: a=b\r\n",
    ],
)
async def test_headers_that_describe_the_body_are_ignored(headers: bytes) -> None:
    answer = OK + headers + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
    async with talking(says(answer)) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert await fetcher.fetch(url) == PICTURE


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate), ("identity", bytes), ("", bytes)],
)
async def test_a_known_encoding_is_decoded(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    async with talking(encoded(encoding, compress(PICTURE))) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert await fetcher.fetch(url) == PICTURE


async def test_a_redirect_with_an_endless_body_is_followed() -> None:
    answers = itertools.chain(
        [repeats(b"HTTP/1.1 302 Found\r\nLocation: /next\r\n\r\n", b"x" * 10_000)],
        itertools.repeat(says(OK + b"\r\n" + PICTURE)),
    )

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(answers)(reader, writer)

    async with talking(talk) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert await fetcher.fetch(url) == PICTURE


async def test_bytes_after_the_announced_length_are_not_taken_as_the_next_response() -> None:
    forged = OK + b"Content-Length: 6\r\n\r\nforged"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE + forged)

    async with talking(talk) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert await fetcher.fetch(f"{url}/a") == PICTURE
        assert await fetcher.fetch(f"{url}/b") == PICTURE


async def test_responses_that_nobody_asked_for_are_dropped_and_end_the_idle_connection() -> None:
    body = bytes(100_000)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await asyncio.wait_for(flood.wait(), 60)
        while True:
            writer.write(b"HTTP/1.1 204 \r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    flood = asyncio.Event()
    async with talking(talk) as url, Fetcher(PATIENT, LOOPBACK) as fetcher:
        assert await fetcher.fetch(url) == body
        assert fetcher.open_connections == 1
        flood.set()
        async with asyncio.timeout(60):
            while fetcher.open_connections:  # noqa: ASYNC110 -- it is a condition of sockets
                await asyncio.sleep(0.01)
