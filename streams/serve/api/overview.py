"""GET /v1/overview: what the whole system does now, and did in the last hour. GET /v1/overview/live: the same, as it changes."""

from aiohttp import hdrs, web

from streams.serve.api.context import Call
from streams.serve.api.parameters import NoQuery, OverviewQuery
from streams.serve.api.replies import reply
from streams.serve.api.routes import EVENTS, Route
from streams.serve.api.subscribers import events_response
from streams.serve.api.tokens import Scope
from streams.serve.overview.types import Now, Overview

SCOPE: Scope = "read"


async def overview(call: Call[OverviewQuery, None]) -> web.StreamResponse:
    """What the whole system does now, and did."""
    query = call.query
    return reply(
        call.api.serving.overview.overview(query.seconds, query.step), headers={hdrs.CACHE_CONTROL: "no-store"}
    )


async def live(call: Call[NoQuery, None]) -> web.StreamResponse:
    """Send each look at the brokers until the client goes away, or its token expires or is revoked."""
    response = events_response()
    if call.request.method == hdrs.METH_HEAD:
        return response
    subscriber = call.api.live.open(call.caller)
    try:
        await call.stream(response, subscriber, SCOPE)
    finally:
        call.api.live.close(subscriber)
    return response


ROUTES = [
    Route(
        method="GET",
        path="/v1/overview",
        name="overview",
        summary="Whether all is well, what the whole system does now, and what it did in the last hour.",
        scope="read",
        handler=overview,
        query=OverviewQuery,
        answer=Overview,
    ),
    Route(
        method="GET",
        path="/v1/overview/live",
        name="live_overview",
        summary="What the whole system does, once a second, as server-sent events. `GET /v1/overview` has what was before.",
        scope=SCOPE,
        handler=live,
        answer=Now,
        media=EVENTS,
        problems=("too_many_streams", "too_many_token_streams"),
    ),
]
