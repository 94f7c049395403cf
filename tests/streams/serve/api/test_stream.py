"""The stream of changes: what it says, and that no number of clients, however slow, takes more than its bound."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from model.bundle import Bundle
from streams.serve.api import seats, tokens
from streams.serve.api.changes import LISTED, Streams
from streams.serve.api.context import Limits
from streams.serve.api.problems import Problem
from streams.serve.api.seats import Seats
from streams.serve.api.subscribers import QUEUED, Subscriber
from streams.serve.interface import Change
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.made import MadeServing, event


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    async for line in response.content:
        yield line.decode().rstrip("\n")


async def next_data(found: AsyncIterator[str]) -> dict[str, Any]:
    """The data of the next event."""
    async with asyncio.timeout(60):
        async for line in found:
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


async def opened(served: Served, stack: AsyncExitStack, query: str = "", **options: Any) -> AsyncIterator[str]:
    """Open a stream, and wait until it is."""
    response = await stack.enter_async_context(served.client.get(served.url(f"/v1/stream{query}"), **options))
    assert response.status == 200, await response.text()
    assert response.content_type == "text/event-stream"
    found = lines(response)
    assert await anext(found) == "retry: 2000"
    await until(lambda: served.serving.bags.readers > 0)
    return found


async def until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 -- the server sends no notice
            await asyncio.sleep(0.01)


async def test_changes_of_a_quarter_of_a_second_are_one_message(served: Served, bundle: Bundle) -> None:
    async with AsyncExitStack() as stack:
        found = await opened(served, stack)
        for number in range(3):
            served.serving.bags.put(event(bundle, "ada", f"new-{number}", number=number))
        served.serving.bags.put(event(bundle, "bob", "new"))
        data = await next_data(found)
        assert data["count"] == 2
        assert [one["user_id"] for one in data["changes"]] == ["ada", "bob"]
        assert data["changes"][0]["offset"] == served.serving.bags.read("ada").state.offset


async def test_a_stream_of_one_user_says_nothing_of_others(served: Served, bundle: Bundle) -> None:
    async with AsyncExitStack() as stack:
        found = await opened(served, stack, "?user_id=ada%2F1")
        served.serving.bags.put(event(bundle, "bob", "new"))
        served.serving.bags.put(event(bundle, "ada/1", "new"))
        data = await next_data(found)
        assert (data["count"], [one["user_id"] for one in data["changes"]]) == (1, ["ada/1"])


async def test_a_stream_of_another_workers_user_is_misdirected(served: Served) -> None:
    served.serving.bags.not_served = range(4)
    response = await served.get("/v1/stream?user_id=ada")
    assert (response.status, (await problem_of(response))["reason"]) == (421, "not_served")


@pytest.mark.parametrize("change", ["expired", "revoked"])
async def test_an_open_stream_ends_when_its_token_expires_or_is_revoked(
    serve: Serve, bundle: Bundle, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "LOOK", 0.05)
    monkeypatch.setattr(tokens, "CHECK", 0.0)
    path = tmp_path / "tokens.json"
    async with serve(scopes=("read", "admin")) as served, AsyncExitStack() as stack:
        found = await opened(served, stack, headers=served.bearer("read"))
        other = await opened(served, stack, headers=served.bearer("admin"))
        served.serving.bags.put(event(bundle, "ada", "one"))
        assert (await next_data(found))["count"] == 1
        if change == "revoked":
            tokens.revoke_token(path, "read")
        else:
            content = json.loads(path.read_text())
            [own] = [one for one in content["tokens"] if one["name"] == "read"]
            own["expires"] = "2025-01-01T00:00:00Z"
            path.write_text(json.dumps(content))
        async with asyncio.timeout(60):
            while await anext(found, None) is not None:
                pass
        await until(lambda: len(served.api.streams) == 1)
        served.serving.bags.put(event(bundle, "ada", "two"))
        await next_data(other)
        data = await next_data(other)
        assert data["changes"][0]["user_id"] == "ada", "the other stream goes on"
        assert (await served.get("/v1/stream", headers=served.bearer("read"))).status == 401


async def test_without_the_scope_names_users_have_other_names(serve: Serve, bundle: Bundle, tmp_path: Path) -> None:
    both = tokens.create_token(tmp_path / "tokens.json", "both", ["read", "names"], now=datetime.now(UTC))
    async with serve(scopes=("read",)) as served, AsyncExitStack() as stack:
        named = await opened(served, stack, headers={"Authorization": f"Bearer {both}"})
        other = await opened(served, stack, headers=served.bearer("read"))
        names: list[str] = []
        for _ in range(2):
            served.serving.bags.put(event(bundle, "ada", "new"))
            assert (await next_data(named))["changes"][0]["user_id"] == "ada"
            names.append((await next_data(other))["changes"][0]["user_id"])
        assert names[0] == names[1] and names[0].startswith("user-") and "ada" not in names[0]


async def test_streams_share_one_reader_and_the_last_one_stops_it(served: Served, bundle: Bundle) -> None:
    async with AsyncExitStack() as stack:
        found = [await opened(served, stack) for _ in range(5)]
        served.serving.bags.put(event(bundle, "ada", "new"))
        assert [(await next_data(one))["count"] for one in found] == [1] * 5
        assert served.serving.bags.readers == 1
    await until(lambda: not len(served.api.streams))  # the clients have gone
    await until(lambda: not served.serving.bags._queues)


async def test_a_silent_stream_says_that_it_is_there(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.serve.api.subscribers.HEARTBEAT", 0.05)
    async with AsyncExitStack() as stack:
        found = await opened(served, stack)
        async with asyncio.timeout(60):
            assert await anext(found) == ""
            assert await anext(found) == ": still here"


async def test_of_200_streams_100_are_open_and_each_takes_little_memory(serve: Serve, bundle: Bundle) -> None:
    async with serve(limits=Limits(streams=100, token_streams=1000)) as served, AsyncExitStack() as stack:
        await opened(served, stack)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        clients = [await asyncio.open_connection(served.host, served.port) for _ in range(199)]
        for _, writer in clients:
            stack.callback(writer.close)
            writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        firsts = [await reader.readline() for reader, _ in clients]
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert sorted(first[9:12] for first in firsts) == [b"200"] * 99 + [b"503"] * 100
        assert len(served.api.streams) == 100
        assert taken / 199 < 64 * 1024, "both ends of a connection together"
        refused = await served.get("/v1/stream")
        assert (await problem_of(refused))["reason"] == "too_many_streams"
        assert (await served.get("/v1/users/ada/recommendations")).status == 200


async def test_one_token_has_so_many_streams_and_another_has_its_own(serve: Serve, bundle: Bundle) -> None:
    async with (
        serve(scopes=("read", "admin"), limits=Limits(streams=3, token_streams=2)) as served,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            await opened(served, stack, headers=served.bearer("read"))
        for path in ("/v1/stream", "/v1/overview/live"):
            refused = await served.get(path, headers=served.bearer("read"))
            assert (refused.status, (await problem_of(refused))["reason"]) == (429, "too_many_token_streams")
            assert refused.headers["Retry-After"] == "10"
        await opened(served, stack, headers=served.bearer("admin"))
        refused = await served.get("/v1/stream", headers=served.bearer("admin"))
        assert (refused.status, (await problem_of(refused))["reason"]) == (503, "too_many_streams")
    assert not len(served.api.seats)


async def test_a_client_that_reads_nothing_is_dropped(
    served: Served, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.serve.api.changes.INTERVAL", 0.001)
    monkeypatch.setattr("streams.serve.api.subscribers.WRITE_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(served.host, served.port, limit=1024)
    writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: len(served.api.streams) == 1)
    writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
    async with asyncio.timeout(60):
        while len(served.api.streams):
            for number in range(LISTED):
                served.serving.bags.put(event(bundle, f"user-{number:0200}", "new"))
            await asyncio.sleep(0.002)
    writer.close()
    del reader


async def test_a_subscriber_that_is_behind_is_dropped_with_its_messages() -> None:
    subscriber = Subscriber("-")
    for number in range(QUEUED):
        subscriber.put(b"%d" % number)
    assert not subscriber.dropped
    assert await subscriber.next(0.0) == b"0"
    subscriber.put(b"x")
    subscriber.put(b"y")
    assert subscriber.dropped
    assert await subscriber.next(0.0) is None


async def test_many_changes_are_counted_and_the_newest_named(serving: MadeServing) -> None:
    streams = Streams(serving.bags, Seats(1, 1))
    subscriber = streams.open(None, ids=True)
    with pytest.raises(Problem):
        streams.open(None, ids=True)
    await until(lambda: serving.bags.readers == 1)
    changes = [Change(f"user-{number}", 0, number) for number in range(LISTED + 50)]
    for queue in serving.bags._queues:
        queue.put_nowait(changes)
    message = await subscriber.next(5)
    assert message is not None
    data = json.loads(message.partition(b"data: ")[2])
    assert (data["count"], len(data["changes"])) == (LISTED + 50, LISTED)
    assert data["changes"][-1]["user_id"] == f"user-{LISTED + 49}"
    streams.close(subscriber)


async def test_when_the_worker_stops_the_streams_end(serve: Serve) -> None:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as client:
        async with serve() as served:
            response = await stack.enter_async_context(client.get(served.url("/v1/stream")))
            assert await response.content.readline() == b"retry: 2000\n"
        async with asyncio.timeout(60):
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
