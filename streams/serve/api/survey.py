"""Work over many bags or the whole catalogue, which takes too long for a request.

Requests start it, and answer with what it has found so far. An idle worker computes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from time import monotonic, thread_time

logger = logging.getLogger(__name__)

SHARE = 0.25  # of one core that a survey takes at most
REST = 15.0  # seconds after its end before it begins again

Steps = Iterator[object]


class Survey:
    """Runs steps in a thread, with pauses. At most one run at a time; a run that fails is logged, and comes again after the rest.

    Args:
        name: for the log.
        begin: makes the steps of a run, in the event loop.
        thread: where the steps run, each some milliseconds to a second.
        rest: seconds between the end of a run and the next one.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], Awaitable[Steps]],
        thread: Executor,
        *,
        rest: float = REST,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._begin = begin
        self.thread = thread
        self._rest = rest
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next = clock()

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._task is not None

    def ask(self) -> None:
        """Somebody wants to know: begin a run, if none is under way and the last one is not too recent."""
        if self._task is None and self._clock() >= self._next:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)

    def close(self) -> None:
        """End the run."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop, steps = asyncio.get_running_loop(), await self._begin()
        while True:
            seconds = await loop.run_in_executor(self.thread, _step, steps)
            if seconds is None:
                return
            await asyncio.sleep(seconds * (1 / SHARE - 1))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task, self._next = None, self._clock() + self._rest
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed; it is tried again after %g s", self._name, self._rest, exc_info=error)


def _step(steps: Steps) -> float | None:
    """Do a step. Returns the processor time that it took, seconds; None if there was none left."""
    began = thread_time()
    for _ in steps:
        return thread_time() - began
    return None
