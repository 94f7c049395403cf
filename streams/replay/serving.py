"""The web server from which the workers fetch pictures that are files here. It serves the data set's pictures and nothing else."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from streams.replay.exceptions import ReplayError
from streams.replay.source import Item

Address = Callable[[Item], str]
"""The URL of an item's picture."""


@asynccontextmanager
async def served_pictures(items: Mapping[str, Item], host: str, port: int) -> AsyncGenerator[Address]:
    """Serve on host:port, where 0 is any free one; gives where each picture is. Raises ReplayError.

    The address has an item's number, and no path: nothing that a stranger asks for can name another file.
    """
    files = {str(item.number): Path(item.picture).absolute() for item in items.values() if item.local}
    if not files:
        yield lambda item: item.picture
        return

    async def picture(request: web.Request) -> web.StreamResponse:
        path = files.get(request.match_info["number"])
        if path is None or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    application = web.Application()
    application.router.add_get("/{number}", picture)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ReplayError(
                f"--serve-on {host}:{port}: {error.strerror or error}: name an address of this machine"
            ) from error
        base = f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
        yield lambda item: f"{base}/{item.number}" if item.local else item.picture
    finally:
        await runner.cleanup()
