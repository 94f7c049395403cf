"""Binds an HTTP server to an address."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from streams.exceptions import StartupError


@asynccontextmanager
async def listening(
    runner: web.BaseRunner, host: str, port: int, what: str, *, backlog: int = 128
) -> AsyncGenerator[int]:
    """Serve while this is open. Yields the port.

    Args:
        runner: has the server, and is not set up yet.
        host: to bind.
        port: the same; 0 for a free one.
        what: what it is for, or the settings, for the error.
        backlog: connections that may wait to be accepted.

    Raises:
        StartupError: it cannot listen there.
    """
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=backlog).start()
        except OSError as error:
            raise StartupError(
                f"cannot listen on {host}:{port} {what}: {error.strerror}; set another port, or 0 to pick a free one"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
