"""Pixels to embeddings in micro-batches: whatever pictures wait while the model is busy go into its next call together."""

import asyncio
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder

_Waiting = tuple[NDArray[np.uint8], "asyncio.Future[NDArray[np.float32]]"]


class EmbeddingBatcher:
    """One model, one call at a time, at most `batch` pictures in each."""

    def __init__(self, embedder: Embedder, executor: Executor, batch: int) -> None:
        self._embedder = embedder
        self._executor = executor
        self._batch = batch
        self._waiting: list[_Waiting] = []
        self._running: asyncio.Task[None] | None = None

    async def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding, float32 [d], of a picture, uint8 [H, W, 3]."""
        result: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append((picture, result))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._batch], self._waiting[self._batch :]
                try:
                    pixels = np.stack([picture for picture, _ in batch])
                    embeddings = await loop.run_in_executor(self._executor, self._embedder.embed, pixels)
                except Exception as error:  # noqa: BLE001 -- whatever it is belongs to those who wait: each of them raises it
                    for _, result in batch:
                        if not result.done():
                            result.set_exception(error)
                    continue
                for (_, result), embedding in zip(batch, embeddings, strict=True):
                    if not result.done():
                        result.set_result(embedding)
        finally:
            self._running = None
