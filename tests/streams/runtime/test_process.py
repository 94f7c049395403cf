"""SIGHUP asks for the bundles to be loaded again, and ends no worker, unless its terminal is gone."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE

import pytest

from streams.runtime.process import hangups_held

# A process that says what becomes of SIGHUP. Argument: when the signal is sent, and how the terminal is used.
SCRIPT = """
import asyncio, fcntl, os, signal, sys, termios
from streams.runtime.process import on_hangup

async def main():
    stop, reloaded = asyncio.Event(), asyncio.Event()
    if "early" in sys.argv:
        os.kill(os.getpid(), signal.SIGHUP)
    if "terminal" in sys.argv:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    on_hangup(reloaded.set, stop)
    print("waiting", flush=True)
    waits = {asyncio.create_task(stop.wait()): "stopped", asyncio.create_task(reloaded.wait()): "reloaded"}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    print(*sorted(waits[task] for task in done), flush=True)
    for task in rest:
        task.cancel()

asyncio.run(main())
"""
COMMAND = (sys.executable, "-c", SCRIPT)


async def test_a_signal_to_a_process_that_is_starting_waits_until_it_can_be_handled() -> None:
    with hangups_held():
        child = await asyncio.create_subprocess_exec(*COMMAND, "early", stdin=PIPE, stdout=PIPE)
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "this process gets it again"
    output, _ = await asyncio.wait_for(child.communicate(), 60)
    assert output.split() == [b"waiting", b"reloaded"]
    assert child.returncode == 0


@pytest.mark.parametrize(("hang_up", "expected"), [(True, b"stopped"), (False, b"reloaded")])
def test_a_process_stops_when_its_terminal_is_gone_and_not_when_it_is_asked_to_reload(
    hang_up: bool, expected: bytes
) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "terminal"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True) as child:
        os.close(theirs)
        assert child.stdout
        assert child.stdout.readline() == b"waiting\n"
        if hang_up:
            os.close(ours)
        else:
            child.send_signal(signal.SIGHUP)
        assert child.stdout.readline().strip() == expected
    if not hang_up:
        os.close(ours)
    assert child.returncode == 0
