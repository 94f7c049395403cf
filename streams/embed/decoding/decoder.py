"""One decoder process, as the worker sees it. It belongs to one thread at a time."""

import math
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.exceptions import PictureError
from streams.embed.decoding import messages
from streams.embed.decoding.limits import DecoderLimits
from streams.exceptions import DecoderError
from streams.text import visible

PROGRAM = "streams.embed.decoding.process"
ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""Variables that a process may need to find Python and its libraries. It gets no others: some hold passwords."""

START_WAIT = 6.0  # seconds of one wait for a process that starts; for a picture it is `DecoderLimits.seconds`
IDLE_WAITS, WAITS = 10, 100
"""Waits after which a process counts as hung: those in which it sleeps, and all. On a busy machine a process does not sleep: it
waits for a processor, and its own timer ends it. They are waits and not a time: a pause of the whole machine is one at most."""

OVERTIME = 2
"""Waits of processor time after which the process has no timer any more: it takes no more than one for a picture. Code that a
picture runs can stop the timer."""

COMPUTES = 0.02  # processor seconds in one wait; a process that sleeps uses none
RUNNABLE = ("R", "D")  # states: runs or waits for a processor; waits for a disk, or for memory that is on one

PIPE_BUFFER = 1024**2  # bytes, of which the kernel grants 208 KiB by default: an answer fits
END_TIMEOUT = 1.0  # seconds that a process has to end once it has closed its pipe

BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""Signals that a picture does not cause: somebody else, or the kernel for want of memory, has ended the process."""

Cause = Literal["deadline", "crash", "killed"]


class DecoderDied(Exception):
    """The process is gone, and so is the picture that it had.

    Attributes:
        cause: `deadline` if the picture took too long, `crash` if it ended the process, `killed` if something else did.
    """

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause: Cause = cause


class Decoder:
    """A process that decodes one picture after another. It is started, killed, and started again."""

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        self._running: subprocess.Popen[bytes] | None = None  # None before the first start, as the next
        self._opened: socket.socket | None = None
        self._used = 0.0  # processor seconds of the process at the last look
        self._wait = START_WAIT  # seconds

    @property
    def pid(self) -> int | None:
        """Id of the process; None before the first start, and after it was closed."""
        return self._running.pid if self._running else None

    def processor_seconds(self) -> float:
        """Of the process so far, in steps of a hundredth; 0 without a process, and outside Linux."""
        return processor_use(self._running.pid)[1] if self._running else 0.0

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self._running is None:
            raise RuntimeError("the decoder was not started")
        return self._running

    @property
    def _pipe(self) -> socket.socket:
        if self._opened is None:
            raise RuntimeError("the decoder was not started")
        return self._opened

    def start(self) -> str:
        """Start the process, and end the one before.

        Returns:
            Why system calls of the process are not filtered, or "".

        Raises:
            DecoderError: it does not start.
        """
        self.close()
        self._opened, theirs = socket.socketpair()
        with theirs:
            for end in (self._pipe, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BUFFER)
            try:
                self._running = subprocess.Popen(  # noqa: S603 -- nothing in it comes from outside
                    [sys.executable, "-P", "-m", PROGRAM, *self._limits.arguments()],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(self._limits),
                    process_group=0,  # Ctrl-C in a terminal reaches only us
                )
            except OSError as error:
                raise DecoderError(f"no decoder process can be started: {error.strerror}") from error
        self._wait_at_most(START_WAIT)
        self._used = 0.0
        try:
            kind, body = self._answer()
        except DecoderDied as death:
            raise DecoderError(f"a decoder process ends before its first picture: {death}") from death
        if kind != messages.READY:
            raise DecoderError(f"a decoder process starts with a message of kind {kind}")
        self._wait_at_most(self._limits.seconds)
        return visible(body.decode(errors="replace"))

    def decode(self, data: bytes, size: int, max_pixels: int) -> NDArray[np.uint8]:
        """As `model.preprocessing.decode_picture`.

        Raises:
            PictureError: the process refuses the picture.
            DecoderDied: there is no process any more.
        """
        try:
            header = messages.REQUEST.pack(len(data), size, max_pixels)
            sent = self._pipe.sendmsg([header, data]) - len(header)
            if sent < len(data):  # to send nothing fails, too, once the process has read all and died of it
                self._pipe.sendall(memoryview(data)[sent:])
        except OSError as error:  # the process has ended since the last picture, or does not read
            self.kill()
            raise DecoderDied("killed", f"it took no picture: {error.strerror}") from error
        pixels = np.empty((size, size, 3), np.uint8)
        kind, body = self._answer(pixels)
        if kind == messages.PIXELS:
            return pixels
        if kind == messages.REFUSED:
            try:
                refusal = messages.decode_refusal(body)
            except ValueError as error:
                raise self._confused(str(error)) from error
            raise PictureError(refusal.reason, visible(refusal.message))
        raise self._confused(f"an answer of kind {kind}")

    def kill(self) -> None:
        """End the process, from any thread. A thread that waits for its answer gets DecoderDied."""
        running = self._running  # another thread may close it
        if running is not None:
            running.kill()
            running.wait()

    def close(self) -> None:
        """End the process and close the pipe to it."""
        self.kill()
        if self._opened is not None:
            self._opened.close()
        self._running = self._opened = None

    def _answer(self, pixels: NDArray[np.uint8] | None = None) -> tuple[int, bytes]:
        """Kind and body of the next answer. The body of PIXELS goes to `pixels`."""
        header = bytearray(messages.ANSWER.size)
        self._read(memoryview(header))
        kind, length = messages.ANSWER.unpack(header)
        if kind == messages.PIXELS:
            if pixels is None or length != pixels.nbytes:
                raise self._confused(f"{length} bytes of pixels")
            self._read(pixels.data.cast("B"))
            return kind, b""
        if length > messages.MAX_TEXT:
            raise self._confused(f"{length} bytes of text")
        body = bytearray(length)
        self._read(memoryview(body))
        return kind, bytes(body)

    def _read(self, rest: memoryview) -> None:
        """Fill a buffer from the pipe."""
        waits = idle = 0
        began = 0.0  # processor seconds of the process when the first wait was over
        while rest:
            try:
                count = self._pipe.recv_into(rest, 0, socket.MSG_WAITALL)
            except BlockingIOError:  # one wait is over
                waits += 1
                idle += not self._computes()
                began = began or self._used
                if self._used - began > OVERTIME * self._wait:
                    self.kill()
                    raise DecoderDied(
                        "deadline", f"more than {self._wait:g} s of processor time, without a timer"
                    ) from None
            except ConnectionError:
                raise self._death() from None
            else:
                if not count:
                    raise self._death()
                rest = rest[count:]
                waits += 1
            if rest and (idle >= IDLE_WAITS or waits >= WAITS):
                self.kill()
                raise DecoderDied("deadline", f"no answer in {waits} waits of {self._limits.seconds:g} s")

    def _computes(self) -> bool:
        """Whether the process has worked since the last look, or would if it had a processor."""
        before, (state, self._used) = self._used, processor_use(self._process.pid)
        return self._used - before > COMPUTES or state in RUNNABLE

    def _death(self) -> DecoderDied:
        """Why the process has closed its end of the pipe."""
        try:
            code = self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            return self._confused("its pipe is closed, and it goes on")
        if code == -signal.SIGPROF:
            return DecoderDied("deadline", f"more than {self._limits.seconds:g} s of processor time")
        if code >= 0:
            return DecoderDied("crash", f"exit code {code}")
        return DecoderDied("killed" if -code in BY_OTHERS else "crash", f"signal {_signal_name(-code)}")

    def _confused(self, what: str) -> DecoderDied:
        """End a process that does not keep to the protocol."""
        self.kill()
        return DecoderDied("crash", f"it sent nonsense: {what}")

    def _wait_at_most(self, seconds: float) -> None:
        """Set the time of one wait, for reading. A write waits as long as all idle ones together."""
        self._wait = seconds
        self._pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        self._pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds * IDLE_WAITS))


def _environment(limits: DecoderLimits) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if limits.heic:
        kept["MALLOC_ARENA_MAX"] = "1"  # else each thread takes 64 MiB of addresses for its own memory
    return kept | {"OPENBLAS_NUM_THREADS": "1"}  # NumPy's threads take 8 MiB of addresses and more each, for nothing


def processor_use(pid: int) -> tuple[str, float]:
    """State of a process, and its processor time so far in seconds (Linux; nothing and 0 elsewhere), see proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0.0
    utime, stime = int(fields[11]), int(fields[12])
    return fields[0], (utime + stime) / os.sysconf("SC_CLK_TCK")


def _timeval(seconds: float) -> bytes:
    fraction, whole = math.modf(seconds)
    return struct.pack("@ll", int(whole), int(fraction * 1e6))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
