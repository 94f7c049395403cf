"""The web server from which the workers fetch pictures that are files here, or in an archive here, from which they are served as
they are, unpacked one by one. It serves the data set's pictures and nothing else.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from model.exceptions import PictureError
from offline_training.datasets.picture_files import MAX_BYTES, PictureFiles
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.source import PlayedItem

logger = logging.getLogger(__name__)

UNPACKED = 16  # pictures of archives that are in memory at a time

Address = Callable[[PlayedItem], str]
"""The URL of an item's picture."""


@asynccontextmanager
async def served_pictures(
    items: Mapping[str, PlayedItem], host: str, port: int, *, max_bytes: int = MAX_BYTES
) -> AsyncGenerator[Address]:
    """Serve on host:port, where 0 is any free one; gives where each picture is.

    The address has an item's number, and no path: nothing that a stranger asks for can name another file, or another member.
    A member of an archive that cannot be had is 404, one of more than `max_bytes` is 413: both become dead letters.

    Raises ReplayError, or DatasetError for an archive that cannot be read.
    """
    pictures = {str(item.number): picture for item in items.values() if (picture := item.local_picture)}
    if not pictures:
        yield lambda item: str(item.picture or "")
        return
    with PictureFiles(max_bytes) as files:
        files.open(pictures.values())
        async with _listening(_application(pictures, files), host, port) as base:
            yield lambda item: f"{base}/{item.number}" if item.local_picture else str(item.picture or "")


def _application(pictures: Mapping[str, PictureRef], files: PictureFiles) -> web.Application:
    """pictures: their addresses by number."""
    places = asyncio.Semaphore(UNPACKED)

    async def picture(request: web.Request) -> web.StreamResponse:
        found = pictures.get(request.match_info["number"])
        if found is None:
            raise web.HTTPNotFound
        if found.archive_member is None:
            path = found.path.absolute()
            if not path.is_file():
                raise web.HTTPNotFound
            return web.FileResponse(path)
        async with places:
            return await _unpacked(request, files, found)

    application = web.Application()
    application.router.add_get("/{number}", picture)
    return application


async def _unpacked(request: web.Request, files: PictureFiles, picture: PictureRef) -> web.Response:
    """Sent whole before it returns, so that whoever counts the places counts what is in memory."""
    try:
        response = web.Response(body=await asyncio.to_thread(files.read, picture))
    except PictureError as error:
        logger.warning("a picture cannot be served: %s", error)
        too_large = error.reason == "picture_too_large"
        return web.Response(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.NOT_FOUND)
    await response.prepare(request)
    await response.write_eof()
    return response


@asynccontextmanager
async def _listening(application: web.Application, host: str, port: int) -> AsyncGenerator[str]:
    """The server while it is needed; gives its URL."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ReplayError(
                f"--serve-on {host}:{port}: {error.strerror or error}: name an address of this machine"
            ) from error
        yield f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
