"""What a decoder process gives up before it reads its first picture: memory, files, the network, other processes.

Nothing here can be undone, neither by this process nor by code that a picture runs in it.
"""

import ctypes
import os
import resource
import signal
import sys

from streams.embed.decoding.limits import DecoderLimits
from streams.embed.decoding.seccomp import SeccompError, install

NICE = 10  # a scheduler weight of 110 against 1,024, see sched(7): decoders keep ahead of the model without slowing it down
_PR_SET_PDEATHSIG = 1
_NO_PROCESSES = (resource.RLIMIT_NPROC, 0)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux). Elsewhere the end of the pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter(limits: DecoderLimits) -> str:
    """Give up all that decoding does not need. Everything has to be imported by now.

    Returns:
        Why system calls are not filtered, or "". The other limits hold in both cases.
    """
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_NOFILE, 0),  # the pipe stays open, and no file or socket can be opened
        *([] if limits.heic else [_NO_PROCESSES]),  # it counts threads, too
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    try:
        install(threads=limits.heic)
    except SeccompError as error:
        resource.setrlimit(_NO_PROCESSES[0], (0, 0))  # a process that only the filter keeps from others
        return str(error)
    return ""
