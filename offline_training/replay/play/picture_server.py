"""The web server from which the workers fetch local pictures. It serves the pictures of the data set and nothing else."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES
from offline_training.datasets.picture_files import PictureFiles
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.events import PlayedItem

logger = logging.getLogger(__name__)

IN_MEMORY = 16  # pictures in memory at a time
STATUS = {
    "picture_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "not_a_picture": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "missing_picture": HTTPStatus.NOT_FOUND,
    "unreadable_picture": HTTPStatus.NOT_FOUND,
}
"""By the reasons of `PictureFiles.read`."""

PictureUrl = Callable[[PlayedItem], str]
"""Gives the URL of an item's picture."""


@asynccontextmanager
async def served_pictures(
    items: Mapping[str, PlayedItem],
    folders: PictureFolders,
    host: str,
    port: int,
    *,
    max_bytes: int = MAX_PICTURE_BYTES,
) -> AsyncGenerator[PictureUrl]:
    """Serve the local pictures of `items` while the context is open.

    A URL contains the number of an item, and no path: no request can name another file or another member of an archive. A file that
    cannot be read, or is outside `folders`, is a 404, one of more than `max_bytes` a 413, and one that is no picture a 415; the workers
    make dead letters of them.

    Args:
        items: the items, by id.
        folders: where their local pictures may be.
        host: the address to listen on.
        port: the port to listen on; 0: any free one.
        max_bytes: maximum size of a picture, bytes.

    Raises:
        ReplayError: the address cannot be used.
        DatasetError: an archive cannot be read.
    """
    pictures = {str(item.number): picture for item in items.values() if (picture := item.local_picture)}
    if not pictures:
        yield lambda item: str(item.picture or "")
        return
    with PictureFiles(folders, max_bytes) as files:
        files.open(pictures.values())
        async with _listening(_application(pictures, files), host, port) as base:
            yield lambda item: f"{base}/{item.number}" if item.local_picture else str(item.picture or "")


def _application(pictures: Mapping[str, PictureRef], files: PictureFiles) -> web.Application:
    """The web application. pictures: by the numbers of their items."""
    in_memory = asyncio.Semaphore(IN_MEMORY)

    async def serve(request: web.Request) -> web.StreamResponse:
        picture = pictures.get(request.match_info["number"])
        if picture is None:
            raise web.HTTPNotFound
        async with in_memory:
            return await _sent(request, files, picture)

    application = web.Application()
    application.router.add_get("/{number}", serve)
    return application


async def _sent(request: web.Request, files: PictureFiles, picture: PictureRef) -> web.Response:
    """Serve a picture. The response is sent before this returns, so the semaphore bounds what is in memory."""
    try:
        response = web.Response(body=await asyncio.to_thread(files.read, picture))
    except PictureError as error:
        logger.warning("cannot serve a picture: %s", error)
        return web.Response(status=STATUS[error.reason])
    await response.prepare(request)
    await response.write_eof()
    return response


@asynccontextmanager
async def _listening(application: web.Application, host: str, port: int) -> AsyncGenerator[str]:
    """Run the server while the context is open; yields its base URL."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ReplayError(
                f"--serve-on {host}:{port}: {error.strerror or error}: use a free address of this machine"
            ) from error
        yield f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
