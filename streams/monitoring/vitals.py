"""What each kind of worker shows of itself: its version, whether it is ready, its free disk, and how late its event loop is."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from math import nan
from pathlib import Path

from streams import metrics
from streams.metrics.histogram import Series

TICK = 0.25  # seconds between two looks at the event loop


@asynccontextmanager
async def showing_vitals(worker: str, folder: Path, ready: Callable[[], bool]) -> AsyncGenerator[None]:
    """Show the vital signs of a worker in its metrics while this is open.

    Args:
        worker: its kind.
        folder: of its files.
        ready: whether /ready answers 200.
    """
    metrics.build_info.labels(worker, version("tastestream")).set(1)
    metrics.ready.labels(worker).set_function(lambda: float(ready()))
    metrics.disk_free.labels(worker).set_function(lambda: _free(folder))
    ticking = asyncio.create_task(_tick(metrics.event_loop_lag.labels(worker)))
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


def _free(folder: Path) -> float:
    """Bytes that are left on the disk of a folder; NaN if the folder is gone."""
    try:
        return float(shutil.disk_usage(folder).free)
    except OSError:
        return nan


async def _tick(late: Series) -> None:
    """Measure by how much later than asked the event loop goes on."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late.observe(max(loop.time() - due, 0.0))
