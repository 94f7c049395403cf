"""A filter of system calls (Linux, seccomp): the process keeps those that computing and its pipe need. All others fail.

So no file or socket can be opened, no program or process started, no other process signalled or read. The kernel runs the
filter, a program in its BPF language, before each system call. See seccomp(2) and the kernel's
Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_MISSING = 0x00050000 | errno.ENOSYS
_LOAD, _EQUAL, _ANY_BIT, _RETURN = (
    0x20,
    0x15,
    0x45,
    0x06,
)  # BPF: load a word, jump if equal, jump if a bit is set, return
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_FIRST_ARGUMENT, _THIRD_ARGUMENT = 16, 32  # of an argument, the low word
_PROT_EXEC, _CLONE_THREAD = 4, 0x10000
_INSTRUCTION = struct.Struct("=HBBI")

ALLOWED = (
    "read", "readv", "write", "writev", "close",
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk",
    "futex", "sched_yield", "clock_gettime", "getrandom",
    "setitimer", "rt_sigreturn", "restart_syscall", "exit", "exit_group",
)  # fmt: skip
"""System calls that decoding and the pipe need. `mmap` and `mprotect` cannot make memory executable."""

MAPPING = ("mmap", "mprotect")

THREADS = ("clone", "clone3", "rseq", "set_robust_list")
"""System calls with which threads start, where they are allowed. `clone` may start a thread of this process and nothing else. `clone3`
does not exist then: the filter cannot see what it would start, so the C library falls back to `clone`."""


class Machine(NamedTuple):
    """How the kernel names an architecture, and the numbers of its system calls."""

    audit: int  # AUDIT_ARCH_*
    numbers: dict[str, int]


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigreturn": 15,
            "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "setitimer": 38, "exit": 60,
            "futex": 202, "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "getrandom": 318,
            "clone": 56, "clone3": 435, "rseq": 334, "set_robust_list": 273,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        {
            "close": 57, "read": 63, "write": 64, "readv": 65, "writev": 66, "exit": 93, "exit_group": 94, "futex": 98,
            "setitimer": 103, "clock_gettime": 113, "sched_yield": 124, "restart_syscall": 128, "rt_sigreturn": 139,
            "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233,
            "getrandom": 278, "clone": 220, "clone3": 435, "rseq": 293,
            "set_robust_list": 99,
        },
    ),
}  # fmt: skip


class SeccompError(Exception):
    """The filter cannot be installed here."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def program(machine: Machine, *, threads: bool = False) -> bytes:
    """The filter for an architecture, as BPF instructions. A jump names the instructions that it skips.

    threads: whether the process may start threads.
    """
    names = (*ALLOWED, *THREADS) if threads else ALLOWED
    begin, end = 3, 3 + len(names)
    fail, check_mapping, check_clone, missing = end, end + 1, end + 5, end + 9
    targets = dict.fromkeys(MAPPING, check_mapping) | {"clone": check_clone, "clone3": missing}
    instructions = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 0, fail - 2, machine.audit), (_LOAD, 0, 0, _NUMBER)]
    for here, name in enumerate(names, begin):
        instructions.append((_EQUAL, targets.get(name, check_mapping + 2) - here - 1, 0, machine.numbers[name]))
    instructions += [
        (_RETURN, 0, 0, _FAIL),
        (_LOAD, 0, 0, _THIRD_ARGUMENT),
        (_ANY_BIT, 1, 0, _PROT_EXEC),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL),
        (_RETURN, 0, 0, _MISSING),
    ]
    return b"".join(_INSTRUCTION.pack(*one) for one in instructions)


def install(*, threads: bool = False) -> None:
    """Filter the system calls of this process from now on. It must have a single thread, and may start others with `threads`.

    Raises:
        SeccompError: there is no filter for this machine, or the kernel refuses it.
    """
    machine = MACHINES.get(os.uname().machine)
    if os.uname().sysname != "Linux" or machine is None:
        raise SeccompError(f"no filter is known for {os.uname().sysname} on {os.uname().machine}")
    code = program(machine, threads=threads)
    libc = ctypes.CDLL(None, use_errno=True)
    attached = _Program(len(code) // _INSTRUCTION.size, code)
    for option, *values in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(attached), 0, 0),
    ):
        if libc.prctl(option, *map(ctypes.c_ulong, values)):
            raise SeccompError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
