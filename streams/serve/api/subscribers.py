"""Clients that are sent server-sent events: what waits for each, and when one is dropped.

What a client takes is bounded: messages are shared, and one who reads too slowly is dropped.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from aiohttp import hdrs, web

from streams import metrics
from streams.serve.api.routes import EVENTS
from streams.serve.api.seats import Seats

QUEUED = 20  # messages that wait for a client: five seconds
HEARTBEAT = 15.0  # seconds without a message, after which a comment keeps proxies from closing the connection
WRITE_SECONDS = 10.0  # that a client may take to read what is in the buffers
BUFFER = 16 * 1024  # bytes that wait in a socket's buffer of ours


class Subscriber:
    """One open stream."""

    def __init__(self, caller: str) -> None:
        """`caller`: name of the token."""
        self.caller = caller
        self.dropped = False  # its client is too far behind, or the worker stops
        self.ended = False  # its client has gone, or its token is not valid any more
        self._messages: deque[bytes] = deque()
        self._ready = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Queue a message. A subscriber that is too far behind is dropped."""
        if len(self._messages) >= QUEUED:
            self.drop()
        else:
            self._messages.append(message)
            self._ready.set()

    def drop(self) -> None:
        """Drop the client."""
        self.dropped = True
        self._messages.clear()
        self._ready.set()

    def end(self) -> None:
        """End the stream."""
        self.ended = True
        self._messages.clear()
        self._ready.set()

    async def next(self, timeout: float) -> bytes | None:
        """The next message; None if there is none within `timeout` seconds, or the stream ends."""
        if not self._messages and not self.dropped and not self.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
        self._ready.clear()
        return self._messages.popleft() if self._messages else None


def events_response() -> web.StreamResponse:
    """A response of server-sent events that has not begun."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: EVENTS, hdrs.CACHE_CONTROL: "no-store"})
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep messages back
    return response


async def send_events(
    request: web.Request,
    response: web.StreamResponse,
    subscriber: Subscriber,
    seats: Seats,
    permitted: Callable[[], bool],
) -> None:
    """Send the messages of a subscriber until the client goes away, is dropped, or is not permitted any more."""
    try:
        response.force_close()
        await response.prepare(request)
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=BUFFER)
        await response.write(b"retry: 2000\n\n")
        with seats.watched(lambda: _is_there(request) and permitted(), subscriber.end):
            await _send_all(response, subscriber)
    except (TimeoutError, ConnectionError):
        metrics.serve_streams_dropped.inc()
        if request.transport is not None:
            request.transport.abort()


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


async def _send_all(response: web.StreamResponse, subscriber: Subscriber) -> None:
    """Send the messages of a stream until it ends. Raises TimeoutError if the client does not read them."""
    while True:
        message = await subscriber.next(HEARTBEAT)
        if subscriber.dropped:
            raise TimeoutError
        if subscriber.ended:
            return
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(message or b": still here\n\n")
