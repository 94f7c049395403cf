"""GET /v1/stream: which bags change, as server-sent events."""

from aiohttp import hdrs, web
from msgspec import UNSET

from streams.serve.api.context import Call, replica
from streams.serve.api.parameters import StreamQuery
from streams.serve.api.routes import EVENTS, Route
from streams.serve.api.subscribers import events_response
from streams.serve.api.tokens import Scope
from streams.serve.api.types.stream import StreamedChanges

SCOPE: Scope = "read"


async def stream(call: Call[StreamQuery, None]) -> web.StreamResponse:
    """Send changes until the client goes away, or its token expires or is revoked."""
    streams, query = call.api.streams, call.query
    response = events_response()
    if call.request.method == hdrs.METH_HEAD:
        return response
    user_id = None if query.user_id is UNSET else query.user_id
    if user_id is not None:
        with replica():
            call.api.serving.bags.read(user_id)  # another worker's user never changes here
    subscriber = streams.open(user_id, ids="names" in call.scopes, caller=call.caller)
    try:
        await call.stream(response, subscriber, SCOPE)
    finally:
        streams.close(subscriber)
    return response


ROUTES = [
    Route(
        method="GET",
        path="/v1/stream",
        name="stream",
        summary="Which bags change, as server-sent events. Without the scope `names`, users have other names.",
        scope=SCOPE,
        handler=stream,
        query=StreamQuery,
        answer=StreamedChanges,
        media=EVENTS,
        problems=("too_many_streams", "too_many_token_streams", "not_served", "state_unreadable"),
    )
]
