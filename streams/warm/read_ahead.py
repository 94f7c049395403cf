"""Reads items in a thread, because reading may block, a bounded number ahead of the consumer."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_AHEAD = 1024  # items


class ReadAhead(Generic[T]):
    """The items of a blocking generator, as an asynchronous generator.

    The thread is a daemon and ends with the process: nothing can wake it while it waits for an open pipe.
    """

    def __init__(self, source: Generator[T]) -> None:
        self._source = source
        self._items: queue.Queue[T] = queue.Queue(MAX_AHEAD)
        self._more = asyncio.Event()
        self._abandoned = False
        self._ended = False
        self._error: Exception | None = None
        self.read = 0  # items read so far

    @property
    def ended(self) -> bool:
        """Whether the source has ended, so that `read` is the total."""
        return self._ended

    async def items(self) -> AsyncGenerator[T]:
        """All items in order; at the end raises what the source raised."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="read-ahead", daemon=True).start()
        try:
            while True:
                self._more.clear()
                ended = self._ended  # read before the queue: the source puts its last item before it ends
                try:
                    yield self._items.get_nowait()
                except queue.Empty:
                    if ended:
                        break
                    await self._more.wait()
        finally:
            self._abandoned = True
            with suppress(queue.Empty):  # makes room, so that the thread does not wait in `put`
                while True:
                    self._items.get_nowait()
        if self._error is not None:
            raise self._error

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for item in self._source:
                self.read += 1
                self._items.put(item)
                if self._abandoned:
                    break
                if not self._more.is_set():
                    loop.call_soon_threadsafe(self._more.set)
        except Exception as error:  # noqa: BLE001 -- the consumer raises it
            self._error = error
        finally:
            self._source.close()
            self._ended = True
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._more.set)
