"""How a process of ours begins and ends: its log, the signal to stop, the exit codes, the way out that flushes nothing.

Imports nothing heavy: the command line and the supervisor start with it.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

from streams.settings import Settings

logger = logging.getLogger(__name__)

CRASHED = 1  # a restart goes on at the last commit
UNAVAILABLE = os.EX_UNAVAILABLE  # 69: no broker within `broker_timeout`
MISCONFIGURED = os.EX_CONFIG  # 78: configuration, bundle, topics or data folder are wrong; a restart would not help

STOP_TIMEOUT = 8.0  # seconds for everything, before a worker that was told to stop ends itself


def configure_logging(settings: Settings) -> None:
    """One line for each record, to standard error. The libraries speak up only about trouble."""
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    if settings.log_level != "DEBUG":
        for name in ("faust", "mode", "stamina", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger("mode.timers").setLevel(logging.ERROR)  # a commit that waits for the broker is no news
        # aiokafka reports each failed attempt as an error, also those that are tried again; so do we, once
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


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


def end_at_once(reason: str) -> NoReturn:
    """End this process where it stands: nothing that it holds or has buffered is written."""
    logger.error("%s: ending the process, with nothing more written; what is not committed is delivered again", reason)
    logging.shutdown()
    os._exit(CRASHED)
