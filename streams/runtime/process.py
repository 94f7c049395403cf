"""How a process starts and ends: logging, data folder, stop signal, exit codes, and an exit that flushes nothing.

Imports nothing heavy, because the command line and the supervisor load it.
"""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO, TypeVar

from model.exceptions import TastestreamError
from streams.exceptions import BrokerUnreachable, DataFolderError, DeliveryError, StallError, StateError
from streams.logs import configure_logs

if TYPE_CHECKING:
    from streams.settings import Settings

logger = logging.getLogger(__name__)

WorkerKind = Literal["embed", "profile", "serve"]
T = TypeVar("T")

CRASHED = 1  # a restart continues at the last commit
UNAVAILABLE = os.EX_UNAVAILABLE  # 69: no broker within `broker_timeout`
MISCONFIGURED = os.EX_CONFIG  # 78: settings, bundle, topics or data folder are wrong; a restart would not help

ADDRESS = "address"  # file in the folder of a worker: where it answers HTTP
LOCK_PAUSE = 0.1  # seconds between two attempts to lock a data folder
STOP_TIMEOUT = 8.0  # seconds that a worker has to stop, before it ends itself


def configure_logging(settings: "Settings", worker: str = "") -> None:
    """Log one line per record to standard error, as the settings say. `worker`: its kind, which each line names; "" for a command."""
    configure_logs(
        level=settings.log_level,
        json=settings.log_format == "json",
        worker=settings.worker_name(worker) if worker else "",
        user_ids=settings.log_user_ids,
    )


def run_in_folder(
    settings: "Settings", kind: WorkerKind, run: Callable[[Path], Coroutine[Any, Any, int]], *, supervised: bool = False
) -> int:
    """Run a worker in its folder under the data folder. Returns its exit code; logs and translates what it raises.

    Args:
        settings: where the data folder is.
        kind: of the worker.
        run: the worker, in its folder.
        supervised: whether a supervisor started it. If the supervisor before was killed, its worker ends soon, and is waited for.
    """
    configure_logging(settings, kind)
    try:
        patience = STOP_TIMEOUT + 2 if supervised else 0.0
        with locked_folder(settings.state_dir, kind, patience=patience) as folder:
            return asyncio.run(run(folder))
    except TastestreamError as error:
        logger.error("%s", error)  # noqa: TRY400 -- the message says everything
        if isinstance(error, BrokerUnreachable):
            return UNAVAILABLE
        return CRASHED if isinstance(error, StateError | DeliveryError | StallError) else MISCONFIGURED


def first_error(error: BaseException | None) -> BaseException | None:
    """The first error in a group: a task group wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def stopping_in_time(code: int = CRASHED) -> Generator[None]:
    """End the process at once if this block takes longer than `STOP_TIMEOUT`: parts can wait for each other, some in threads.

    Args:
        code: exit code then. 0 for a stop that was asked for: a broker that is away makes it no failure.
    """
    deadline = threading.Timer(STOP_TIMEOUT, end_at_once, [f"could not stop within {STOP_TIMEOUT:.0f} s", code])
    deadline.daemon = True
    deadline.start()
    try:
        yield
    finally:
        deadline.cancel()


@contextmanager
def locked_folder(data_dir: Path, kind: str, *, if_used: str = "", patience: float = 0.0) -> Generator[Path]:
    """The folder of a worker, or of a command, under the data folder, locked for as long as the process lives.

    Args:
        data_dir: the data folder.
        kind: of worker, or the name of the command.
        if_used: what to do if another process holds the folder; by default the advice is for workers.
        patience: seconds to wait for a process that holds the folder.

    Raises:
        DataFolderError: another process holds the folder, or it cannot be written.
        StateError: the disk is full.
    """
    folder = data_dir.absolute() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "LOCK").open("a+")
    except OSError as error:
        raise DataFolderError(
            f"data folder {folder}: {error.strerror}; set TASTESTREAM_DATA_DIR to a folder that can be written"
        ) from error
    with lock:
        if not _locked(lock, folder, patience):
            raise DataFolderError(
                f"data folder {folder} is in use by process {_holder(lock)}; "
                + (if_used or f"each {kind} worker needs its own (TASTESTREAM_DATA_DIR)")
            )
        try:
            (folder / ADDRESS).unlink(missing_ok=True)  # of the process before
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as error:
            raise StateError(f"data folder {folder} cannot be written: {error.strerror}") from error
        yield folder


def tell_address(folder: Path, host: str, port: int) -> None:
    """Write to the folder of a worker where it answers HTTP from this machine. Raises StateError if the disk is full."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- any address: this machine's own is one
    try:
        (folder / ADDRESS).write_text(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    except OSError as error:
        raise StateError(f"data folder {folder} cannot be written: {error.strerror}") from error


def told_address(folder: Path) -> str | None:
    """Where the worker of a folder answers, as http://host:port; None if it has not said so yet."""
    try:
        return (folder / ADDRESS).read_text() or None
    except OSError:
        return None


def _locked(lock: TextIO, folder: Path, patience: float) -> bool:
    """Lock an open file, and wait at most `patience` seconds for a process that holds the lock. Returns whether it is locked."""
    deadline = monotonic() + patience
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if monotonic() >= deadline:
                return False
        else:
            return True
        if not told:
            logger.info(
                "data folder %s is in use by process %s; waiting up to %.0f s for its end",
                folder,
                _holder(lock),
                patience,
            )
            told = True
        sleep(LOCK_PAUSE)


def _holder(lock: TextIO) -> str:
    """The id of the process that holds a lock."""
    lock.seek(0)
    return lock.read() or "unknown"


def stop_event(*, with_parent: bool) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set and, with `with_parent`, the end of standard input: the parent process is gone."""
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


@contextmanager
def hangups_held() -> Generator[None]:
    """Let SIGHUP wait in this block, and in a child process that is started in it until `on_hangup`: it would kill the child."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def on_hangup(reload: Callable[[], object], stop: asyncio.Event) -> None:
    """Call `reload` at SIGHUP; but set `stop` if the terminal that the process reads from is gone."""
    terminal = _is_terminal()

    def hung_up() -> None:
        if terminal and not _is_terminal():
            stop.set()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _is_terminal() -> bool:
    return os.isatty(0)  # standard input; false once its terminal has hung up


async def unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Run `work` and return its result; cancel it and return None if `stop` is set first."""
    working, signalled = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None


def collect_seldom(allocations: int) -> None:
    """Freeze the long-lived objects of a worker that has started, so that a full garbage collection does not pause it for 100 ms.

    Args:
        allocations: threshold of generation 0 from now on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(allocations, *gc.get_threshold()[1:])


def end_at_once(reason: str, code: int = CRASHED) -> NoReturn:
    """End this process immediately with an exit code, without writing anything that it holds or has buffered."""
    level = logging.ERROR if code else logging.WARNING
    logger.log(level, "%s: ending the process at once; uncommitted events will be delivered again", reason)
    logging.shutdown()
    os._exit(code)
