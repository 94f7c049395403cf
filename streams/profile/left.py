"""Deletes the bags of partitions that moved to another worker and stayed there: they hold rows of users who were erased since.

A partition that returns within a day reads only the newest records of the changelog. Later it is read from the beginning, as on
a new disk. Not for: databases that are open, in the table or as a standby.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from streams.profile.databases import partition_path, partitions_on_disk

logger = logging.getLogger(__name__)

AWAY = 86_400.0  # seconds since a database was closed; the changelog keeps erased rows for longer
SWEEP = 3600.0  # seconds between two looks
_ASIDE = "left-"


def set_aside(folder: Path, used: Collection[int], before: float) -> list[int]:
    """Rename the databases that nobody has used for long, so that nobody opens them while they are deleted.

    Args:
        folder: of the databases.
        used: partitions whose databases are open.
        before: seconds since the epoch; what was closed later stays.

    Returns:
        The partitions, ascending.
    """
    left = [
        number
        for number in partitions_on_disk(folder)
        if number not in used and partition_path(folder, number).stat().st_mtime < before
    ]
    for number in left:
        partition_path(folder, number).rename(folder / f"{_ASIDE}{number}")
    return left


def delete_aside(folder: Path) -> None:
    """Delete what `set_aside` renamed, in this run or an earlier one."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


async def delete_left(
    folder: Path, used: Callable[[], Collection[int]], *, away: float = AWAY, sweep: float = SWEEP
) -> None:
    """Delete the bags of partitions that left, until it is cancelled.

    Args:
        folder: of the databases.
        used: the partitions whose databases are open.
        away: seconds since a database was closed, after which it is deleted.
        sweep: seconds between two looks.
    """
    while True:
        await asyncio.sleep(sweep)
        try:
            left = set_aside(folder, used(), time.time() - away)
        except OSError as error:
            logger.warning("the bags of partitions that moved to other workers are not deleted: %s", error)
            continue
        if left:
            logger.info(
                "deleting the bags of the partitions %s: they left this worker %g h ago or earlier", left, away / 3600
            )
        await asyncio.to_thread(delete_aside, folder)
