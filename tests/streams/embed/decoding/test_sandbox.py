"""After `sandbox.enter` a process can compute and use its pipe, and nothing else. A child process tries the rest."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.embed.decoding import seccomp
from tests.streams.embed.decoding.conftest import DEFAULTS

ROOT = Path(__file__).parents[4]

PROGRAM = """
import ctypes, json, mmap, os, signal, socket, subprocess, sys, threading, time
from streams.embed.decoding import sandbox, seccomp
from streams.embed.decoding.limits import DecoderLimits
kept = os.open("/etc/hostname", os.O_RDONLY)
connected, _ = socket.socketpair()
if sys.argv[2] == "unfiltered":
    seccomp.MACHINES.clear()
reason = sandbox.enter(DecoderLimits(5, int(sys.argv[1]), heic=sys.argv[2] == "threads"))
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def thread():
    threading.Thread(target=int).start()

def grow():
    return len(bytearray(int(sys.argv[1])))

TRIES = {
    "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "write a file": lambda: os.open("/tmp/tastestream-decoder", os.O_WRONLY | os.O_CREAT),
    "read the environment of the worker": lambda: os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY),
    "list a folder": lambda: os.listdir("/"),
    "open a socket": lambda: socket.socket(),
    "open a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
    "ask for a name": lambda: socket.getaddrinfo(b"example.com", 80),
    "send to a socket that it has": lambda: connected.sendmsg([b"x"]),
    "fork": lambda: os.fork() or os._exit(0),
    "start a program": lambda: subprocess.run(["/bin/true"]),
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "start a thread": thread,
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "signal itself": lambda: os.kill(os.getpid(), 0),
    "trace its parent": lambda: call("ptrace", 16, os.getppid(), 0, 0),
    "read the memory of its parent": lambda: call("process_vm_readv", os.getppid(), None, 0, None, 0, 0),
    "map executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "raise a limit": lambda: __import__("resource").setrlimit(9, (-1, -1)),
    "a new filter": lambda: call("prctl", 22, 2, 0, 0, 0),
    "change the priority of another": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 0),
    "make a pipe": lambda: os.pipe(),
    "duplicate its pipe": lambda: os.dup(0),
    "a memory file": lambda: os.memfd_create("x"),
    "make its priority higher": lambda: call("setpriority", 0, 0, -5),
    "take all memory": grow,
}
found = {}
for name, attempt in TRIES.items():
    if reason and name in ("become a program", "trace its parent"):
        continue  # without a filter both succeed: this program would be gone, or its parent stopped
    try:
        attempt()
    except (OSError, RuntimeError, MemoryError, ValueError, subprocess.SubprocessError) as error:
        found[name] = type(error).__name__
    else:
        found[name] = None
alive = bytearray(10_000_000), time.time(), mmap.mmap(-1, 4096)
os.write(1, json.dumps([reason, found]).encode())
"""


def tried(how: str) -> tuple[str, dict[str, str | None]]:
    """Why there is no filter, and which error each attempt meets; None if it succeeds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(DEFAULTS.memory), how], cwd=ROOT, stdout=subprocess.PIPE, timeout=60
    )
    assert done.returncode == 0
    reason, found = json.loads(done.stdout)
    return reason, found


def test_a_process_in_the_sandbox_can_do_nothing_but_compute() -> None:
    reason, found = tried("filtered")
    assert reason == ""
    assert [name for name, error in found.items() if error is None] == []


def test_a_process_that_decodes_heic_can_start_threads_and_no_process() -> None:
    reason, found = tried("threads")
    assert reason == ""
    assert [name for name, error in found.items() if error is None] == ["start a thread"]


def test_without_a_filter_it_still_opens_nothing_and_takes_no_more_memory() -> None:
    reason, found = tried("unfiltered")
    assert reason.startswith("no filter is known for Linux on ")
    refused = {name for name, error in found.items() if error is not None}
    assert refused >= {
        "read a file", "write a file", "read the environment of the worker", "list a folder", "open a socket",
        "open a Unix socket", "open a raw socket", "ask for a name", "make a pipe", "duplicate its pipe", "a memory file",
        "start a program", "take all memory",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_of_the_system_calls_are_those_of_the_kernel(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    text = Path(header).read_text()
    kernel = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    assert seccomp.MACHINES[machine].numbers == {
        name: int(kernel[name]) for name in (*seccomp.ALLOWED, *seccomp.THREADS)
    }
