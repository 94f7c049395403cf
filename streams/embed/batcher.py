"""Calls a network in micro-batches, off the event loop: what waits while it is busy shares its next call."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from threading import Lock
from time import perf_counter
from typing import Generic, TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Batcher(Generic[Given, Made]):
    """One network, one call at a time, at most `batch` inputs in a call.

    The network's thread takes its next inputs itself, so it does not wait for the event loop between two calls.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Given]], Sequence[Made]],
        executor: Executor,
        batch: int,
        took: Callable[[float], object] = lambda _: None,
    ) -> None:
        """Create a batcher.

        Args:
            run: calls the network: one output for each input. Runs in the executor.
            executor: its thread.
            batch: inputs in a call, at most.
            took: is told the seconds of each call, in the network's thread.
        """
        self._call = run
        self._executor = executor
        self._batch = batch
        self._took = took
        self._lock = Lock()  # guards the two attributes below
        self._waiting: deque[tuple[Given, asyncio.Future[Made]]] = deque()
        self._running = False

    async def made(self, given: Given) -> Made:
        """What the network makes of one input. Raises what the network raises."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Made] = loop.create_future()
        with self._lock:
            self._waiting.append((given, result))
            idle, self._running = not self._running, True
        if idle:
            self._executor.submit(self._run, loop)
        return await result

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call the network until nothing waits. Runs in the network's thread."""
        while batch := self._next_batch():
            found: Sequence[Made] | Exception
            started = perf_counter()
            try:
                found = self._call([given for given, _ in batch])
            except Exception as error:  # noqa: BLE001 -- every caller in the batch raises it
                found = error
            self._took(perf_counter() - started)
            loop.call_soon_threadsafe(_set_results, [result for _, result in batch], found)

    def _next_batch(self) -> list[tuple[Given, "asyncio.Future[Made]"]]:
        batch: list[tuple[Given, asyncio.Future[Made]]] = []
        with self._lock:
            while self._waiting and len(batch) < self._batch:
                given, result = self._waiting.popleft()
                if not result.cancelled():
                    batch.append((given, result))
            self._running = bool(batch)
        return batch


def _set_results(results: "list[asyncio.Future[Made]]", found: Sequence[Made] | Exception) -> None:
    for number, result in enumerate(results):
        if result.done():  # its caller was cancelled
            continue
        if isinstance(found, Exception):
            result.set_exception(found)
        else:
            result.set_result(found[number])
