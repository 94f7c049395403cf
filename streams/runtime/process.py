"""How a process of ours begins and ends: its log, its folder, the signal to stop, the exit codes, the way out that flushes
nothing.

Imports nothing heavy: the command line and the supervisor start with it.
"""

import asyncio
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from streams.exceptions import DataFolderError, StateError

if TYPE_CHECKING:
    from streams.settings import Settings

logger = logging.getLogger(__name__)

WorkerKind = Literal["embed", "profile"]
T = TypeVar("T")

CRASHED = 1  # a restart goes on at the last commit
UNAVAILABLE = os.EX_UNAVAILABLE  # 69: no broker within `broker_timeout`
MISCONFIGURED = os.EX_CONFIG  # 78: configuration, bundle, topics or data folder are wrong; a restart would not help

NICE = 10  # a weight of 110 against 1,024, see sched(7)

STOP_TIMEOUT = 8.0  # seconds for everything, before a worker that was told to stop ends itself


def configure_logging(settings: "Settings") -> None:
    """One line for each record, to standard error. The libraries speak up only about trouble."""
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    if settings.log_level != "DEBUG":
        for name in ("faust", "mode", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a commit that waits for the broker is no news
        # aiokafka reports each failed attempt as an error, also those that are tried again; so do we, once
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@contextmanager
def locked_folder(data_dir: Path, kind: WorkerKind) -> Generator[Path]:
    """The worker's own folder under the data folder, held by a lock for as long as the process lives.

    Raises DataFolderError when another worker holds it or it is not ours to write, StateError when the disk is full.
    """
    folder = data_dir.absolute() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "LOCK").open("a+")
    except OSError as error:
        raise DataFolderError(
            f"data folder {folder}: {error.strerror}; set TASTESTREAM_DATA_DIR to one that can be written"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise DataFolderError(
                f"data folder {folder} is in use by process {lock.read() or 'unknown'}; "
                f"each {kind} worker needs its own (TASTESTREAM_DATA_DIR)"
            ) from error
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as error:
            raise StateError(f"data folder {folder} cannot be written: {error.strerror}") from error
        yield folder


def stop_event(*, with_parent: bool) -> asyncio.Event:
    """Set by SIGTERM and SIGINT and, `with_parent`, when whoever holds the other end of standard input is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin)
            stop.set()

    if with_parent:
        loop.add_reader(sys.stdin, read)
    return stop


async def unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """The result of `work`; None, with the work cancelled, when we are told to stop before it is done."""
    working, signalled = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None


def end_at_once(reason: str) -> NoReturn:
    """End this process where it stands: nothing that it holds or has buffered is written."""
    logger.error("%s: ending the process, with nothing more written; what is not committed is delivered again", reason)
    logging.shutdown()
    os._exit(CRASHED)


def yield_to_others() -> None:
    """Give this thread a tenth of the share of a processor that others have, where they compete for it."""
    if sys.platform == "linux":  # where each thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
