"""How a process starts and ends: logging, data folder, stop signal, exit codes, and an exit that flushes nothing.

Imports nothing heavy, because the command line and the supervisor load it.
"""

import asyncio
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from typing_extensions import override

from model.exceptions import TastestreamError
from streams.exceptions import BrokerUnreachable, DataFolderError, DeliveryError, StallError, StateError
from streams.text import visible

if TYPE_CHECKING:
    from streams.settings import Settings

logger = logging.getLogger(__name__)

WorkerKind = Literal["embed", "profile", "serve"]
T = TypeVar("T")

CRASHED = 1  # a restart continues at the last commit
UNAVAILABLE = os.EX_UNAVAILABLE  # 69: no broker within `broker_timeout`
MISCONFIGURED = os.EX_CONFIG  # 78: settings, bundle, topics or data folder are wrong; a restart would not help

STOP_TIMEOUT = 8.0  # seconds that a worker has to stop, before it ends itself


class OneLine(logging.Formatter):
    """One line per record, whatever a message quotes: what is not printable is escaped. Lines of a traceback are indented."""

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = visible(record.message)
        return super().formatMessage(record)

    @override
    def formatException(self, ei: Any) -> str:
        return "\n".join("  " + visible(line) for line in super().formatException(ei).split("\n"))

    @override
    def formatStack(self, stack_info: str) -> str:
        return "\n".join("  " + visible(line) for line in super().formatStack(stack_info).split("\n"))


def configure_logging(settings: "Settings") -> None:
    """Log one line per record to standard error. Libraries log warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    if settings.log_level != "DEBUG":
        for name in ("faust", "mode", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a commit that waits for the broker is not a problem
        # aiokafka logs every failed attempt as an error, also those that it retries; we log the failure once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("faust.agents.actor").setLevel(logging.CRITICAL)  # the app logs the same crash


def run_in_folder(settings: "Settings", kind: WorkerKind, run: Callable[[Path], Coroutine[Any, Any, int]]) -> int:
    """Run a worker in its folder under the data folder. Returns its exit code; logs and translates what it raises."""
    configure_logging(settings)
    try:
        with locked_folder(settings.state_dir, kind) as folder:
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
def stopping_in_time() -> Generator[None]:
    """End the process at once if this block takes longer than `STOP_TIMEOUT`: parts can wait for each other, some in threads."""
    deadline = threading.Timer(STOP_TIMEOUT, end_at_once, [f"could not stop within {STOP_TIMEOUT:.0f} s"])
    deadline.daemon = True
    deadline.start()
    try:
        yield
    finally:
        deadline.cancel()


@contextmanager
def locked_folder(data_dir: Path, kind: str, *, if_used: str = "") -> Generator[Path]:
    """The folder of a worker, or of a command, under the data folder, locked for as long as the process lives.

    Args:
        data_dir: the data folder.
        kind: of worker, or the name of the command.
        if_used: what to do if another process holds the folder; by default the advice is for workers.

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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise DataFolderError(
                f"data folder {folder} is in use by process {lock.read() or 'unknown'}; "
                + (if_used or f"each {kind} worker needs its own (TASTESTREAM_DATA_DIR)")
            ) from error
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as error:
            raise StateError(f"data folder {folder} cannot be written: {error.strerror}") from error
        yield folder


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


def end_at_once(reason: str) -> NoReturn:
    """End this process immediately, without writing anything that it holds or has buffered."""
    logger.error("%s: ending the process at once; uncommitted events will be delivered again", reason)
    logging.shutdown()
    os._exit(CRASHED)
