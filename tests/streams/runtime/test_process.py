"""Signals, the lock of a data folder, and the end of a process.

SIGHUP asks for the bundles to be loaded again, and ends no worker, unless its terminal is gone.
"""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.exceptions import DataFolderError
from streams.runtime.process import hangups_held, locked_folder
from tests.kafka.system import next_line

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


@pytest.mark.parametrize(("hang_up", "expected"), [(True, "stopped"), (False, "reloaded")])
def test_a_process_stops_when_its_terminal_is_gone_and_not_when_it_is_asked_to_reload(
    hang_up: bool, expected: str
) -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "terminal"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True) as child:
        os.close(theirs)
        assert child.stdout
        assert next_line(child.stdout) == "waiting"
        if hang_up:
            os.close(ours)
        else:
            child.send_signal(signal.SIGHUP)
        assert next_line(child.stdout) == expected
    if not hang_up:
        os.close(ours)
    assert child.returncode == 0


# The lock of a data folder

HOLD = """
import sys, time
from pathlib import Path
from streams.runtime.process import locked_folder

with locked_folder(Path(sys.argv[1]), "embed"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Generator[subprocess.Popen[str]]:
    """A process that holds the folder of the embed worker until its standard input ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert next_line(process.stdout) == "held"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_at_once_and_names_the_process(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(DataFolderError, match=f"in use by process {holder.pid};"), locked_folder(tmp_path, "embed"):
        pass


def test_a_worker_under_a_supervisor_waits_for_the_process_before_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with ThreadPoolExecutor(1) as pool:

        def take() -> str:
            with locked_folder(tmp_path, "embed", patience=60):
                return (tmp_path / "embed" / "LOCK").read_text()

        taken = pool.submit(take)
        with pytest.raises(TimeoutError):
            taken.result(0.3)
        assert holder.stdin is not None
        holder.stdin.close()
        assert taken.result(60) == str(os.getpid())


def test_patience_has_an_end(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(DataFolderError, match=str(holder.pid)), locked_folder(tmp_path, "embed", patience=0.3):
        pass


STOPPING = """
import sys, time
from streams.runtime import process

process.STOP_TIMEOUT = 0.1
with process.stopping_in_time(int(sys.argv[1])):
    time.sleep(60)
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_stop_that_takes_too_long_ends_with_the_code_that_it_was_given(code: int) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPING, str(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
