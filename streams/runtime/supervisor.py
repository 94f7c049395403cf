"""Runs one worker of each kind as child processes, and restarts them when they die. For one machine.

A worker that is misconfigured, or that finds no broker at its first start, is not restarted: the supervisor stops the other
workers as well, and exits with the same code. If the broker goes away later, the workers wait for it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from time import monotonic

from streams.exceptions import StartupError
from streams.runtime.process import (
    MISCONFIGURED,
    STOP_TIMEOUT,
    UNAVAILABLE,
    configure_logging,
    hangups_held,
    on_hangup,
    stop_event,
)
from streams.settings import Settings

logger = logging.getLogger(__name__)

KINDS = ("embed", "profile", "serve")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a restart; doubles each time
STEADY = 10.0  # seconds after which a start counts as successful


def run_all(settings: Settings, arguments: Sequence[str], *, with_parent: bool = False) -> int:
    """Run all workers until a signal or, with `with_parent`, the end of standard input.

    Args:
        settings: of the supervisor; the workers read their own.
        arguments: common options of the command line, passed to the workers.
        with_parent: stop when standard input ends.

    Returns:
        The exit code.
    """
    configure_logging(settings, "supervisor")
    try:
        return asyncio.run(_supervise(settings, arguments, with_parent=with_parent))
    except StartupError as error:
        logger.error("%s", error)  # noqa: TRY400 -- the message says everything
        return MISCONFIGURED


async def _supervise(settings: Settings, arguments: Sequence[str], *, with_parent: bool) -> int:
    stop = stop_event(with_parent=with_parent)
    running: dict[str, asyncio.subprocess.Process] = {}

    def reload() -> None:
        for process in running.values():
            _signal(process, signal.SIGHUP)

    on_hangup(reload, stop)
    async with _overview(settings, running.keys) as restarted:
        keepers = [asyncio.create_task(_keep(kind, arguments, stop, running, restarted)) for kind in KINDS]
        codes = await asyncio.gather(*keepers)
    return max(codes)


@contextlib.asynccontextmanager
async def _overview(
    settings: Settings, running: Callable[[], Collection[str]]
) -> AsyncGenerator[Callable[[str], None]]:
    """Serve the overview of the workers while this is open, if a port is set. Yields what counts a restart.

    Without a port nothing of it is imported: the supervisor stays small.
    """
    if settings.supervisor_port is None:
        yield lambda _: None
        return
    from streams.metrics.supervisor import worker_restarts  # noqa: PLC0415
    from streams.runtime.overview import serving_overview  # noqa: PLC0415

    for kind in KINDS:
        worker_restarts.labels(kind)  # so that they are there, and 0
    host = settings.web_host
    async with serving_overview(host, settings.supervisor_port, settings.state_dir, KINDS, running) as port:
        logger.info("supervisor: http://%s:%d/ready", host, port)
        yield lambda kind: worker_restarts.labels(kind).inc()


async def _keep(
    kind: str,
    arguments: Sequence[str],
    stop: asyncio.Event,
    running: dict[str, asyncio.subprocess.Process],
    restarted: Callable[[str], None],
) -> int:
    """Keep one worker running until `stop`. Returns 0, or the exit code of a failure that a restart would not fix.

    Args:
        kind: of the worker.
        arguments: see `run_all`.
        stop: ends the worker.
        running: the process of each kind of worker while it runs; changed here.
        restarted: is told the kind of a worker that is started again.
    """
    pause = FIRST_PAUSE
    first = True
    while not stop.is_set():
        started = monotonic()
        with hangups_held():
            process = running[kind] = await asyncio.create_subprocess_exec(
                # -P: a `model.py` or a folder `streams` in the working folder would be imported instead of ours.
                *(sys.executable, "-P", "-m", "streams", *arguments, "worker", kind, "--with-parent"),
                stdin=asyncio.subprocess.PIPE,  # it closes when we end, however we end; the worker then stops too
                start_new_session=True,  # Ctrl-C in a terminal reaches only us
            )
        code = await _wait(kind, process, stop)
        del running[kind]
        if stop.is_set():
            return max(
                code, 0
            )  # negative: our own signal ended it, before it could handle the signal or because it was too slow
        if code == MISCONFIGURED or (code == UNAVAILABLE and first):
            stop.set()
            return code
        if monotonic() - started > STEADY:
            pause = FIRST_PAUSE
        first = False
        logger.warning("the %s worker ended with code %d; restarting it in %.0f s", kind, code, pause)
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except TimeoutError:
            pause = min(2 * pause, LONGEST_PAUSE)
            restarted(kind)
    return 0


async def _wait(kind: str, process: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
    """Wait for a worker to end. Once `stop` is set, terminate it, and kill it if it is too slow."""
    ended = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not ended.done():
        _signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(ended), STOP_TIMEOUT + 1)
        except TimeoutError:
            logger.warning("the %s worker did not stop; killed", kind)
            _signal(process, signal.SIGKILL)
    return await ended


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal. Process.send_signal polls first: it can reap a worker that ended just now, whose exit code is then lost."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
