"""Pixels to embeddings in micro-batches: whatever pictures wait while the model is busy go into its next call together."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder

_Waiting = tuple[NDArray[np.uint8], "asyncio.Future[NDArray[np.float32]]"]


class EmbeddingBatcher:
    """One model, one call at a time, at most `batch` pictures in each.

    The model's thread takes its next pictures by itself: it does not stand still until the event loop comes round.
    """

    def __init__(self, embedder: Embedder, executor: Executor, batch: int) -> None:
        self._embedder = embedder
        self._executor = executor
        self._batch = batch
        self._lock = Lock()  # around the two below
        self._waiting: deque[_Waiting] = deque()
        self._running = False

    async def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding, float32 [d], of a picture, uint8 [H, W, 3]."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        with self._lock:
            self._waiting.append((picture, result))
            idle, self._running = not self._running, True
        if idle:
            self._executor.submit(self._run, loop)
        return await result

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the model's thread, until nothing waits."""
        while batch := self._taken():
            found: Sequence[NDArray[np.float32]] | Exception
            try:
                found = list(self._embedder.embed(np.stack([picture for picture, _ in batch])))
            except Exception as error:  # noqa: BLE001 -- whatever it is belongs to those who wait: each of them raises it
                found = error
            loop.call_soon_threadsafe(_answer, [result for _, result in batch], found)

    def _taken(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        with self._lock:
            while self._waiting and len(batch) < self._batch:
                picture, result = self._waiting.popleft()
                if not result.cancelled():
                    batch.append((picture, result))
            self._running = bool(batch)
        return batch


def _answer(
    results: list["asyncio.Future[NDArray[np.float32]]"], found: Sequence[NDArray[np.float32]] | Exception
) -> None:
    for number, result in enumerate(results):
        if result.done():  # nobody waits any more
            continue
        if isinstance(found, Exception):
            result.set_exception(found)
        else:
            result.set_result(found[number])
