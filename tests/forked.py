"""Starts `python -m streams` as a fork of a process that has imported it: the imports take two thirds of a start.

What runs is the real command, in a process of its own, with its own arguments, variables and files. `tastestream worker
all` starts its workers itself, with Python, and so do the tests of starts.
"""

import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streams

MAX_REQUEST = 1024**2  # bytes
PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_libc = ctypes.CDLL(None)
_lock = threading.Lock()


class Forked(subprocess.Popen[Any]):
    """Like `subprocess.Popen`, for a command `[sys.executable, "-m", module, ...]`. Forks on Linux only."""

    def _execute_child(self, args: Sequence[str], *others: Any) -> None:
        """Start the process: `Popen.__init__` calls this once it has made the pipes."""
        begin = super()._execute_child  # pyright: ignore[reportAttributeAccessIssue]
        if sys.platform != "linux" or list(args[:2]) != [sys.executable, "-m"]:
            begin(args, *others)
            return
        given = inspect.signature(begin).bind(args, *others).arguments
        files = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        try:
            self.pid = _fork(
                args[2:],
                os.environ if given["env"] is None else given["env"],
                given["cwd"] or os.getcwd(),  # noqa: PTH109 -- it goes into a message
                [own if file < 0 else file for own, file in enumerate(files)],
                new_session=given["start_new_session"],
            )
            self._child_created = True
        finally:
            ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(given[end] for end in ends))  # pyright: ignore[reportAttributeAccessIssue]


def run_forked(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout: float,
    text: str = "",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a `tastestream` command until it ends, for `timeout` seconds at most. text: its standard input."""
    command = [sys.executable, "-m", "streams", *arguments]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Forked(command, env=environment, cwd=folder, text=True, **pipes) as process:
        try:
            output, errors = process.communicate(text, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _fork(
    command: Sequence[str], environment: Mapping[str, str], folder: object, files: Sequence[int], *, new_session: bool
) -> int:
    """Ask for a process with these files as 0, 1 and 2. Returns its id. It is a child of this process."""
    request = json.dumps([list(command), dict(environment), str(folder), new_session]).encode()
    with _lock:
        # The one that forks it ends at once. Its child then becomes a child of this process.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(_server(), [request], files)
            return int(_server().recv(100))
        finally:
            _libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@functools.cache
def _server() -> socket.socket:
    """A connection to the process that forks. That one ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = theirs.fileno()
        command = [sys.executable, "-m", "tests.forked", str(number)]
        subprocess.Popen(
            command, pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
    return ours


def _serve(requests: socket.socket) -> None:
    """Import everything, and fork for each request."""
    for module in pkgutil.walk_packages(streams.__path__, "streams."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    while True:
        request, files, _, _ = socket.recv_fds(requests, MAX_REQUEST, 3)
        if not request:
            return
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if not child:
                for file in (reading, writing, requests.detach()):
                    os.close(file)
                command, environment, folder, new_session = json.loads(request)
                _run(command, environment, folder, new_session, files)
                return
            os.write(writing, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)
        os.close(writing)
        requests.send(os.read(reading, 100))
        for file in (reading, *files):
            os.close(file)


def _run(command: list[str], environment: dict[str, str], folder: str, new_session: bool, files: list[int]) -> None:
    """Run the module in this process."""
    if new_session:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = command[1:]
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
