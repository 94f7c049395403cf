"""Bounds the bytes of a response that are no body, because aiohttp bounds each header and their number, but not their sum.

Some shops send ten kilobytes in one header, or two hundred of them, so each limit alone has to be generous. Their product would
be 64 MB for each connection.
"""

import asyncio
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong

MAX_HEADER_BYTES = 64 * 1024  # status line, headers, and interim responses (1xx) before them
MAX_HEADERS = 1024  # each costs some hundred bytes of Python objects
# After the headers: what the framing of chunks may take besides the body, trailers included.
MAX_FRAMING_BYTES = 256 * 1024
FRAMING_PER_BYTE = 8  # a chunk of one byte has five others


class HeadersTooLarge(HttpProcessingError):
    """The headers of a response are above `MAX_HEADER_BYTES`."""


class BoundedConnector(aiohttp.TCPConnector):
    """A connector whose connections stop reading where a response exceeds the limits above."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_BoundedResponses, loop=self._loop)


class _BoundedResponses(ResponseHandler):
    """One connection, and its responses."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._header_bytes_left = MAX_HEADER_BYTES
        self._answered = False  # the headers of the final response are complete
        self._received = 0  # bytes since then

    def set_response_params(self, **params: Any) -> None:
        self._header_bytes_left, self._answered, self._received = MAX_HEADER_BYTES, False, 0
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if self._answered:  # nobody has asked for another response, and an idle connection would keep it
            if self.transport is not None:
                self.transport.close()
            return
        code = data[0].code
        self._answered = self._answered or code >= 200 or code == 101
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if not self._answered:
            head, data = data[: self._header_bytes_left], data[self._header_bytes_left :]
            self._header_bytes_left -= len(head)
            super().data_received(head)
            if self._exception is not None or not data:
                return
            if not self._answered:
                self._refuse(HeadersTooLarge(message=f"more than {MAX_HEADER_BYTES} bytes of headers"))
                return
        body = self._payload.total_bytes if self._payload is not None else 0
        if self._received > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * body:
            self._refuse(ClientPayloadError("too much besides the body, such as trailers"))
            return
        self._received += len(data)
        super().data_received(data)

    def _refuse(self, error: Exception) -> None:
        if self.transport is not None:
            self.transport.close()
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)


def headers_too_large(error: aiohttp.ClientResponseError) -> bool:
    """Whether a response failed because of the size or the number of its headers."""
    causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
    return any(
        isinstance(cause, HeadersTooLarge | LineTooLong)
        or (isinstance(cause, BadHttpMessage) and cause.message == "Too many headers received")
        for cause in causes
    )
