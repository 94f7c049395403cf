"""Reads in a thread what may block, a bounded number of items ahead of who wants them."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 1024  # items


class ReadAhead(Generic[T]):
    """The items of a generator, for the event loop.

    The thread ends with the process: nobody can wake it where it waits for a pipe into which nobody writes.
    """

    def __init__(self, source: Generator[T]) -> None:
        self._source = source
        self._items: queue.Queue[T] = queue.Queue(AHEAD)
        self._more = asyncio.Event()
        self._abandoned = False
        self._ended = False
        self._error: Exception | None = None
        self.read = 0  # items

    @property
    def ended(self) -> bool:
        """Whether `read` is all there is."""
        return self._ended

    async def items(self) -> AsyncGenerator[T]:
        """One after the other; at the end raises what the source raised."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="read-ahead", daemon=True).start()
        try:
            while True:
                self._more.clear()
                ended = self._ended  # before the look at the items: the last one comes before the end
                try:
                    yield self._items.get_nowait()
                except queue.Empty:
                    if ended:
                        break
                    await self._more.wait()
        finally:
            self._abandoned = True
            with suppress(queue.Empty):
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
        except Exception as error:  # noqa: BLE001 -- belongs to who wants the items
            self._error = error
        finally:
            self._source.close()
            self._ended = True
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(self._more.set)
