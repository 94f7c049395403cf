"""Binds the application to an address. Bounds connections and slow clients, and answers what is no HTTP with a problem document.

aiohttp has no hook for these, so three methods of its request handler are overridden; `tests/streams/serve/api/test_requests.py`
notices if one goes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, InvalidHeader, LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from typing_extensions import override

from streams import metrics
from streams.logs.repeats import summed
from streams.runtime.listening import listening
from streams.runtime.open_files import SPARE, connections_permitted
from streams.serve.api.app import SECURITY_HEADERS
from streams.serve.api.problems import CONTENT_TYPE, Problem
from streams.settings import Settings
from streams.text import visible

logger = logging.getLogger(__name__)

_NO_ROOM = "socket.accept() out of system resource"  # asyncio's words


@dataclass(frozen=True)
class Connections:
    """What connections may take."""

    most: int  # open at a time
    idle_seconds: float = 30.0  # without a request, or until the headers of one have arrived
    write_seconds: float = 20.0  # until a client has read an answer
    stop_seconds: float = 3.0  # that requests have to end when the worker stops
    header_bytes: int = 8190  # of each header
    line_bytes: int = 8192  # of the request line; another number, because the parser names only the limit
    headers: int = 64

    @classmethod
    def of(cls, settings: Settings) -> "Connections":
        """The limits of the settings, as far as this process may open files."""
        most = connections_permitted(settings.serve_connections)
        if most < settings.serve_connections:
            logger.warning(
                "SERVE_CONNECTIONS is %d, but the limit of open files leaves room for %d connections: raise it "
                "(ulimit -n, or LimitNOFILE of systemd) to %d",
                settings.serve_connections, most, settings.serve_connections + SPARE,
            )  # fmt: skip
        return cls(most=most)


class _Handler(RequestHandler):
    """One connection."""

    __slots__ = ("_write_seconds",)

    def __init__(self, server: "_Server", limits: Connections, **options: Any) -> None:
        super().__init__(server, **options)
        self._write_seconds = limits.write_seconds

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server: _Server = self._manager  # pyright: ignore[reportAssignmentType]
        if len(server.connections) < server.limits.most:
            super().connection_made(transport)
            return
        metrics.serve_connections_refused.inc()
        if isinstance(transport, asyncio.Transport):
            transport.write(server.full)
        transport.close()

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            async with asyncio.timeout(self._write_seconds):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:  # the client does not read
            if self.transport is not None:
                self.transport.abort()
            return resp, True

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        if status >= 500:
            logger.error("a request failed", exc_info=exc)
            problem = Problem("internal_error", "the log of the worker has the cause")
        else:
            problem = self._of_parser(exc, message)
        response = _Bare(
            body=problem.document(), status=problem.status, content_type=CONTENT_TYPE, headers=SECURITY_HEADERS
        )
        response.force_close()
        return response

    def _of_parser(self, error: BaseException | None, message: str | None) -> Problem:
        """The problem of what the parser refuses. Never repeats a header, which may be a token."""
        if isinstance(error, LineTooLong):
            _, limit, _ = error.args
            reason = "uri_too_long" if limit == self.max_line_size else "headers_too_large"
            return Problem(reason, f"more than {limit} bytes")
        if isinstance(error, BadHttpMessage) and "headers" in error.message:
            return Problem("headers_too_large", f"more than {self.max_headers} headers")
        if isinstance(error, InvalidHeader):
            return Problem("malformed_request", "a header is not valid")
        return Problem("malformed_request", visible(message or "no HTTP")[:200])


class _Bare(web.Response):
    """A response that does not name the server's software."""

    @override
    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop(hdrs.SERVER, None)


class _Server(Server):
    """Makes a handler for each connection."""

    def __init__(self, limits: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits = limits
        problem = Problem(
            "too_many_connections",
            f"{limits.most} connections are open (SERVE_CONNECTIONS, or the limit of open files)",
            retry_after=5,
        )
        body = problem.document()
        self.full = (
            f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            "Retry-After: 5\r\nConnection: close\r\n\r\n"
        ).encode() + body

    @override
    def __call__(self) -> RequestHandler:
        limits = self.limits
        return _Handler(
            self,
            limits,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=1.0,  # a refused body is not read for long
            auto_decompress=False,  # a body that inflates would be larger than its limit
            max_line_size=limits.line_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
        )


class _Runner(web.AppRunner):
    """Runs the application in our server."""

    def __init__(self, app: web.Application, limits: Connections) -> None:
        super().__init__(app, shutdown_timeout=limits.stop_seconds)
        self._limits = limits

    @override
    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return _Server(self._limits, made.request_handler, request_factory=made.request_factory, loop=made._loop)


async def _no_banner(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.pop(hdrs.SERVER, None)


@contextmanager
def _out_of_files(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Log that no connection can be accepted as one line. asyncio tries again after a second, and logs each of 256 attempts."""
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _NO_ROOM:
            if before is None:
                loop.default_exception_handler(context)
            else:
                before(loop, context)
            return
        logger.warning(
            "connections wait, because none can be accepted: %s; raise the limit of open files (ulimit -n), or lower SERVE_CONNECTIONS",
            context.get("exception"),
            extra=summed("connections that could not be accepted", ""),
        )

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


@asynccontextmanager
async def open_server(app: web.Application, host: str, port: int, limits: Connections) -> AsyncGenerator[int]:
    """Serve while the block runs. Yields the port. Raises StartupError if it cannot listen there."""
    app.on_response_prepare.append(_no_banner)
    with _out_of_files(asyncio.get_running_loop()):
        async with listening(_Runner(app, limits), host, port, "(SERVE_HOST, SERVE_PORT)", backlog=256) as bound:
            yield bound
