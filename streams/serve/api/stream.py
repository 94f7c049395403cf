"""GET /v1/stream: which bags change, as server-sent events."""

import asyncio

from aiohttp import hdrs, web
from msgspec import UNSET

from streams import metrics
from streams.serve.api.changes import Subscriber
from streams.serve.api.context import Call, replica
from streams.serve.api.parameters import StreamQuery
from streams.serve.api.routes import EVENTS, Route
from streams.serve.api.types import StreamedChanges

HEARTBEAT = 15.0  # seconds without a message, after which a comment keeps proxies from closing the connection
LOOK = 1.0  # seconds between two looks at whether a client is still there
WRITE_SECONDS = 10.0  # that a client may take to read what is in the buffers
BUFFER = 16 * 1024  # bytes that wait in a socket's buffer of ours


async def stream(call: Call[StreamQuery, None]) -> web.StreamResponse:
    """Send changes until the client goes away."""
    streams, query = call.api.streams, call.query
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: EVENTS, hdrs.CACHE_CONTROL: "no-store"})
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep messages back
    if call.request.method == hdrs.METH_HEAD:
        return response
    user_id = None if query.user_id is UNSET else query.user_id
    if user_id is not None:
        with replica():
            call.api.serving.bags.read(user_id)  # another worker's user never changes here
    subscriber = streams.open(user_id, ids="admin" in call.scopes)
    try:
        response.force_close()
        await response.prepare(call.request)
        transport = call.request.transport
        if transport is not None:
            transport.set_write_buffer_limits(high=BUFFER)
        await response.write(b"retry: 2000\n\n")
        await _send_all(call.request, response, subscriber)
    except (TimeoutError, ConnectionError):
        metrics.serve_streams_dropped.inc()
        if call.request.transport is not None:
            call.request.transport.abort()
    finally:
        streams.close(subscriber)
    return response


async def _send_all(request: web.Request, response: web.StreamResponse, subscriber: Subscriber) -> None:
    """Send the messages of a stream. Raises TimeoutError if the client does not read them."""
    loop = asyncio.get_running_loop()
    sent = loop.time()
    while True:
        message = await subscriber.next(LOOK)
        if subscriber.dropped:
            raise TimeoutError
        if request.transport is None or request.transport.is_closing():
            return
        if message is None:
            if loop.time() - sent < HEARTBEAT:
                continue
            message = b": still here\n\n"
        sent = loop.time()
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(message)


ROUTES = [
    Route(
        method="GET",
        path="/v1/stream",
        name="stream",
        summary="Which bags change, as server-sent events. Without the scope `admin`, users have other names.",
        scope="read",
        handler=stream,
        query=StreamQuery,
        answer=StreamedChanges,
        media=EVENTS,
        problems=("too_many_streams", "not_served", "state_unreadable"),
    )
]
