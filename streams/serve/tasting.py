"""Codes of pictures that somebody asks about: URLs through the guarded fetcher, bytes through the decoder processes.

Nothing is kept: no cache, no file, no topic. What a request may cost has limits, and a request that is cancelled gives back all that
it holds.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.exceptions import PictureError
from model.quantization import NOT_STORABLE
from streams.bundles import Bundles
from streams.embed.batcher import Batcher
from streams.embed.embedding_cache import CodeBatcher
from streams.embed.networks import open_networks
from streams.embed.opening import CODE_BATCH, open_pipeline
from streams.embed.pipeline import PicturePipeline
from streams.exceptions import FetchError
from streams.serve.interface import Tasted, Uploaded
from streams.settings import Settings

MAX_PICTURES = 64  # of one request
MAX_UPLOADED_BYTES = 64 * 1024**2  # of all pictures of one request that were sent; those beyond are refused
IN_FLIGHT = 16  # pictures of all requests that are fetched, decoded or embedded at a time
ATTEMPTS = 2  # at a picture: somebody waits for it
DEADLINE = 30.0  # seconds for one request; then it has what is done


class _Made(NamedTuple):
    code: bytes
    reason: str = ""
    detail: str = ""


class PictureTaster:
    """Makes codes of strangers' pictures. The `Taster` of the serve worker."""

    def __init__(
        self, pipeline: PicturePipeline[bytes], coder: CodeBatcher, *, max_bytes: int, deadline: float = DEADLINE
    ) -> None:
        """Create a taster.

        Args:
            pipeline: makes features of pictures.
            coder: makes codes of features.
            max_bytes: of one picture that was sent.
            deadline: seconds for one request.
        """
        self.embedder_version = coder.coder.embedder_version
        self._pipeline = pipeline
        self._coder = coder
        self._max_bytes = max_bytes
        self._deadline = deadline

    async def taste(self, pictures: Sequence[str | Uploaded]) -> list[Tasted]:
        """The code of each picture, in order: of a URL, or of what was sent. Each one succeeds or fails on its own.

        A picture that is there twice is made once.

        Raises:
            ValueError: there are more than `MAX_PICTURES` pictures.
        """
        if len(pictures) > MAX_PICTURES:
            raise ValueError(f"{len(pictures)} pictures; at most {MAX_PICTURES} are tasted at once")
        contents = [_content(one) for one in pictures]
        tasks = {content: asyncio.create_task(self._made(content)) for content in _within_limit(contents)}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self._deadline)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        late = _Made(b"", "timeout", f"not made within {self._deadline:g} s; send fewer pictures, or try again")
        over = _Made(b"", "picture_too_many_bytes", f"more than {MAX_UPLOADED_BYTES} bytes of pictures in one request")
        made = {content: late if task.cancelled() else task.result() for content, task in tasks.items()}
        return [_tasted(one, made.get(content, over)) for one, content in zip(pictures, contents, strict=True)]

    async def one(self, picture: str | Uploaded) -> Tasted:
        """The code of one picture, however long it takes."""
        return _tasted(picture, await self._made(_content(picture)))

    async def pixels(self, content: bytes, size: int) -> NDArray[np.uint8]:
        """The pixels of a picture that was sent, as `model.preprocessing.decode_picture` makes them. Raises PictureError."""
        return await self._pipeline.decoded(content, size)

    async def _made(self, content: str | bytes) -> _Made:
        try:
            if isinstance(content, str):
                features = await self._pipeline.made(content)
            else:
                self._check_size(content)
                features = await self._pipeline.made_of(content)
        except (FetchError, PictureError) as error:
            return _Made(b"", error.reason, str(error))
        code = await self._coder.code(features[self._coder.coder.features])
        return _Made(code) if code else _Made(b"", "invalid_embedding", NOT_STORABLE)

    def _check_size(self, content: bytes) -> None:
        if len(content) > self._max_bytes:
            raise PictureError(
                "picture_too_many_bytes",
                f"{len(content)} bytes; the limit is {self._max_bytes}: send a smaller picture",
            )


def _content(picture: str | Uploaded) -> str | bytes:
    return picture if isinstance(picture, str) else picture.content


def _tasted(picture: str | Uploaded, made: _Made) -> Tasted:
    return Tasted(picture if isinstance(picture, str) else picture.name, *made)


def _within_limit(contents: Sequence[str | bytes]) -> list[str | bytes]:
    """Each different picture once, without those that were sent beyond the limit of a request."""
    kept: list[str | bytes] = []
    room = MAX_UPLOADED_BYTES
    for content in dict.fromkeys(contents):
        size = 0 if isinstance(content, str) else len(content)
        if size <= room:
            kept.append(content)
            room -= size
    return kept


@asynccontextmanager
async def open_taster(
    settings: Settings, bundle: Bundle, *, worker: str = "taste", heic: bool = False, idle: float | None = None
) -> AsyncGenerator[PictureTaster]:
    """Open a taster for the embedder of a bundle, with decoder processes and connections of its own.

    Args:
        settings: limits and sizes.
        bundle: the model.
        worker: whose pictures they are, in the metrics.
        heic: as `DecoderLimits` describes it.
        idle: as `open_pipeline` describes it.

    Raises:
        DecoderError: the decoder processes do not start.
    """
    networks = open_networks(Bundles(bundle), settings.model_threads)
    [coder], [network] = networks.coders, networks.pictures
    limits = settings.model_copy(
        update={
            "fetch_connections": min(settings.fetch_connections, IN_FLIGHT),
            "fetch_attempts": min(settings.fetch_attempts, ATTEMPTS),
        }
    )
    with ThreadPoolExecutor(1, "codes") as codes:
        async with open_pipeline(
            limits, {network.version: (network.image_size, network.run)}, worker=worker, heic=heic, idle=idle
        ) as pipeline:
            batcher = coder.run and Batcher(coder.run, codes, CODE_BATCH)
            yield PictureTaster(pipeline, CodeBatcher(coder, batcher), max_bytes=settings.fetch_max_bytes)
