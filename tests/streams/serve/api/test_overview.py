"""The overview over HTTP: a fresh browser gets the last hour, and who follows gets each look."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from streams.serve.api.context import Limits
from tests.streams.serve.api.conftest import Serve, Served, problem_of
from tests.streams.serve.api.test_stream import lines, next_data, until
from tests.streams.serve.overview.made import Story


async def test_the_last_hour_is_there_for_a_fresh_browser(served: Served) -> None:
    story = Story()
    for _ in range(30):
        story.grow("in", 5)
        served.serving.overview.look(story.look(), 0, [])
    answer = await (await served.get("/v1/overview?seconds=20&step=5")).json()
    assert answer["verdict"]["well"] is True
    assert answer["second"]["events_in"] == 5
    history = answer["history"]
    assert history["step"] == 5
    assert set(history["events_in"]) == {5.0}
    assert len(history["at"]) == len(history["lag_events"]) in (4, 5)
    assert [one["group"] for one in answer["groups"]] == ["embed", "profile"]


@pytest.mark.parametrize("query", ["seconds=3601", "seconds=-1", "step=0", "step=601", "step=x", "users=1"])
async def test_a_wrong_parameter_is_a_problem(served: Served, query: str) -> None:
    assert (await problem_of(await served.get(f"/v1/overview?{query}")))["status"] == 400


async def test_who_follows_gets_the_newest_look_at_once_and_each_one_after(served: Served) -> None:
    story = Story()
    served.serving.overview.look(story.look(), 0, [])
    async with AsyncExitStack() as stack:
        response = await stack.enter_async_context(served.client.get(served.url("/v1/overview/live")))
        assert response.content_type == "text/event-stream"
        found = lines(response)
        first = await next_data(found)
        assert first["verdict"]["well"] is True
        story.members["embed"], story.states["embed"] = [], "Empty"
        served.serving.overview.look(story.look(), 0, [])
        assert (await next_data(found))["verdict"]["reason"] == "no_worker_in"
        assert len(served.api.live) == len(served.api.seats) == 1
    await until(lambda: not len(served.api.live))
    assert len(served.api.seats) == 0


async def test_all_kinds_of_streams_share_the_limit(serve: Serve) -> None:
    async with serve(limits=Limits(streams=2)) as served, AsyncExitStack() as stack:
        for path in ("/v1/overview/live", "/v1/stream"):
            await stack.enter_async_context(served.client.get(served.url(path)))
        for path in ("/v1/overview/live", "/v1/stream"):
            response = await served.get(path)
            assert (await problem_of(response))["reason"] == "too_many_streams"


async def test_a_stream_ends_when_the_worker_stops(serve: Serve) -> None:
    async with AsyncExitStack() as stack, serve() as served:
        response = await stack.enter_async_context(served.client.get(served.url("/v1/overview/live")))
        found = lines(response)
        await next_data(found)
        served.api.live.close_all()
        async with asyncio.timeout(60):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_the_scope_read_is_needed(serve: Serve) -> None:
    async with serve(scopes=("read", "write")) as served:
        for path in ("/v1/overview", "/v1/overview/live"):
            assert (await served.get(path)).status == 401
            assert (await served.get(path, headers=served.bearer("write"))).status == 403
        assert (await served.get("/v1/overview", headers=served.bearer("read"))).status == 200
