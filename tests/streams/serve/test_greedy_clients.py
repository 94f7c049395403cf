"""Clients of a serve worker that send too much, or too slowly, or do not read: each is stopped, and the others are answered."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest

from tests.kafka.broker import free_port
from tests.kafka.system import wait_until
from tests.streams.serve.process import bags_on_disk, get, worker
from tests.usage import peak_resident_mb, reset_peak, resident_mb

GIGABYTE = 1024**3
MEGABYTE = 1024**2
UPLOADS = ("/v1/taste", "/v1/items/similar")


class Worker(NamedTuple):
    pid: int
    port: int
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Worker]:
    folder, port = tmp_path_factory.mktemp("greedy"), free_port()
    bags_on_disk(folder)
    with worker(folder, port) as process:
        wait_until(lambda: get(port, "/ready")[0] == 200, message=(folder / "log").read_text)
        yield Worker(process.pid, port, folder / "log")


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", "")).encode()


FORM = "Content-Type: multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="view"; filename="a.jpg"\r\n\r\n'


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


class Upload(NamedTuple):
    status: bytes
    sent: int  # bytes


async def upload(port: int, path: str, *, picture: int, parts: int) -> Upload:
    """Send a form in chunks until the worker stops it. Nothing of it is held here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent, block = 0, chunk(b"\xff" * 64 * 1024)
    answer = asyncio.create_task(reader.read(100))
    try:
        writer.write(head(path, FORM, "Transfer-Encoding: chunked"))
        for number in range(parts):
            writer.write(chunk((b"\r\n" if number else b"") + PART))
            for _ in range(picture // (64 * 1024)):
                writer.write(block)
                await writer.drain()
                sent += 64 * 1024
                if answer.done():
                    return Upload(answer.result()[9:12], sent)
        writer.write(chunk(b"\r\n--x--\r\n") + b"0\r\n\r\n")
        return Upload((await answer)[9:12], sent)
    except ConnectionError:
        with suppress(ConnectionError):
            return Upload((await answer)[9:12], sent)
        return Upload(b"", sent)  # the kernel drops an answer if bytes are left unread
    finally:
        answer.cancel()
        writer.close()


@pytest.mark.parametrize("path", UPLOADS)
async def test_an_upload_of_2_gb_that_says_so_is_refused_before_it_is_sent(served: Worker, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head(path, FORM, f"Content-Length: {2 * GIGABYTE}"))
    async with asyncio.timeout(60):
        answer = await reader.read()  # to the end: the connection is closed
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"reason":"body_too_large"' in answer


@pytest.mark.parametrize("path", UPLOADS)
@pytest.mark.parametrize("picture", [2 * GIGABYTE, 9 * MEGABYTE], ids=["one picture", "many pictures"])
async def test_an_upload_of_2_gb_in_chunks_is_stopped_early_in_little_memory(
    served: Worker, path: str, picture: int
) -> None:
    await upload(served.port, path, picture=MEGABYTE, parts=1)  # what is loaded for the first upload
    reset_peak(served.pid)
    before = resident_mb(served.pid)
    found = await upload(served.port, path, picture=picture, parts=2 * GIGABYTE // picture)
    assert found.status in (b"413", b"") and found.sent < 100 * MEGABYTE
    assert peak_resident_mb(served.pid) - before < 64 + 40 + 20  # a request's pictures, one of them twice, and buffers
    assert get(served.port, "/live")[0] == 200


async def test_ten_uploads_at_once_have_the_memory_of_two(served: Worker) -> None:
    before = resident_mb(served.pid)
    reset_peak(served.pid)
    found = await asyncio.gather(
        *(upload(served.port, "/v1/taste", picture=9 * MEGABYTE, parts=100) for _ in range(10))
    )
    assert {one.status for one in found} <= {b"413", b"503", b""}
    assert sum(one.sent for one in found) < GIGABYTE
    assert peak_resident_mb(served.pid) - before < 128 + 40 + 40


# -- slow clients

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def drip(writer: asyncio.StreamWriter, content: bytes) -> None:
    """One byte a second."""
    for byte in content:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


def dripping(begun: bytes) -> Client:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        dripped = asyncio.create_task(drip(writer, b"x" * 1000))
        try:
            await reader.read()  # to the end
        finally:
            dripped.cancel()
            await asyncio.gather(dripped, return_exceptions=True)

    return client


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask and ask, and read nothing."""
    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
    while True:
        writer.write(head("/openapi.json", method="GET"))
        await writer.drain()
        await asyncio.sleep(0.05)


async def ended(port: int, client: Client) -> float:
    """Seconds until the worker closes the connection of a client."""
    begun = monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    with suppress(ConnectionError):
        await client(reader, writer)
    writer.close()
    return monotonic() - begun


@pytest.mark.slow
async def test_slow_clients_are_closed_in_time_and_the_others_are_answered_meanwhile(served: Worker) -> None:
    before = resident_mb(served.pid)
    json = head("/v1/users:batch", "Content-Type: application/json", "Content-Length: 1000")
    kinds: dict[str, tuple[Client, float]] = {
        "headers": (dripping(b"GET /live HTTP/1.1\r\nX: "), 30),
        "body": (dripping(json), 20),
        "picture": (dripping(head("/v1/taste", FORM, "Content-Length: 100000") + PART), 60),
        "deaf": (deaf, 20),
    }
    each = 50
    slow = {
        name: [asyncio.create_task(ended(served.port, client)) for _ in range(each)]
        for name, (client, _) in kinds.items()
    }
    answers: list[float] = []
    while not all(task.done() for tasks in slow.values() for task in tasks):
        begun = monotonic()
        status, _ = await asyncio.to_thread(get, served.port, "/v1/users/ada/recommendations")
        assert status == 200
        answers.append(monotonic() - begun)
        await asyncio.sleep(0.2)
    for name, (_, seconds) in kinds.items():
        assert max(task.result() for task in slow[name]) < seconds + 10, name
    assert len(answers) > 100 and sorted(answers)[len(answers) * 9 // 10] < 1
    assert resident_mb(served.pid) - before < 60
