"""Pixels to embeddings in micro-batches: pictures that wait while the model is busy share its next call."""

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
    """One model, one call at a time, at most `batch` pictures in a call.

    The model's thread takes its next pictures itself, so it does not wait for the event loop between two calls.
    """

    def __init__(self, embedder: Embedder, executor: Executor, batch: int) -> None:
        self._embedder = embedder
        self._executor = executor
        self._batch = batch
        self._lock = Lock()  # guards the two attributes below
        self._waiting: deque[_Waiting] = deque()
        self._running = False

    async def embed(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding, float32 [d], of a picture, uint8 [H, W, 3]. Raises what the model raises."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        with self._lock:
            self._waiting.append((picture, result))
            idle, self._running = not self._running, True
        if idle:
            self._executor.submit(self._run, loop)
        return await result

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call the model until no picture waits. Runs in the model's thread."""
        while batch := self._next_batch():
            found: Sequence[NDArray[np.float32]] | Exception
            try:
                found = list(self._embedder.embed(np.stack([picture for picture, _ in batch])))
            except Exception as error:  # noqa: BLE001 -- every caller in the batch raises it
                found = error
            loop.call_soon_threadsafe(_set_results, [result for _, result in batch], found)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        with self._lock:
            while self._waiting and len(batch) < self._batch:
                picture, result = self._waiting.popleft()
                if not result.cancelled():
                    batch.append((picture, result))
            self._running = bool(batch)
        return batch


def _set_results(
    results: list["asyncio.Future[NDArray[np.float32]]"], found: Sequence[NDArray[np.float32]] | Exception
) -> None:
    for number, result in enumerate(results):
        if result.done():  # its caller was cancelled
            continue
        if isinstance(found, Exception):
            result.set_exception(found)
        else:
            result.set_result(found[number])
