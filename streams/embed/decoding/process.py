"""The decoder process: reads pictures from standard input, which is a socket, and answers with pixels or a refusal.

    python -P -m streams.embed.decoding.process SECONDS MEMORY HEIC

It ends when its standard input ends. `SIGPROF` kills it when one picture has taken too much processor time: no code of
Python has to run for that.
"""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from PIL import AvifImagePlugin, ImageColor, ImagePalette, TiffImagePlugin

from model.exceptions import PictureError
from model.heic import decoders_with_heic
from model.preprocessing import DECODERS, Decoder, fitted_picture
from streams.embed.decoding import messages, sandbox
from streams.embed.decoding.limits import DecoderLimits

PIPE = 0  # file descriptor
OUTPUTS = (1, 2)  # file descriptors

LATE = (ImageColor, ImagePalette, TiffImagePlugin)
"""Pillow imports these when a picture needs them. Then a process in the sandbox cannot read their files any more."""


def main() -> None:
    """Run until standard input ends."""
    sandbox.die_with_parent()
    limits = DecoderLimits.parse(sys.argv[1:])
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a decoder is one thread of the pool, and memory is counted for one
    refused_allocation = _RefusedAllocation()
    decoders = decoders_with_heic() if limits.heic else DECODERS
    unfiltered = sandbox.enter(limits)
    for descriptor in OUTPUTS:  # they were for an error of the start
        os.close(descriptor)
    _answer(messages.READY, unfiltered.encode())
    while header := _read(messages.REQUEST.size):
        length, size, max_pixels = messages.REQUEST.unpack(header)
        data = bytes(_read(length))
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)
        kind, body = _decoded(
            data, size, max_pixels, decoders=decoders, limits=limits, refused_allocation=refused_allocation
        )
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(kind, body)
    os._exit(0)  # there is nothing to flush, and no open file to flush to


class _RefusedAllocation:
    """Tells whether the C library had no memory for something.

    Decoders report that as a damaged file, but they leave `errno` as the C library has set it.
    """

    def __init__(self) -> None:
        libc: Any = ctypes.CDLL(None)
        location = getattr(libc, "__errno_location", None) or libc.__error  # Linux, or macOS
        location.restype = ctypes.POINTER(ctypes.c_int)
        self._errno = location().contents

    def reset(self) -> None:
        """Forget what was refused before."""
        self._errno.value = 0

    def __bool__(self) -> bool:
        return self._errno.value == errno.ENOMEM


def _decoded(
    data: bytes,
    size: int,
    max_pixels: int,
    *,
    decoders: Mapping[str, Decoder],
    limits: DecoderLimits,
    refused_allocation: _RefusedAllocation,
) -> tuple[int, bytes]:
    """Kind and body of the answer."""
    refused_allocation.reset()
    try:
        return messages.PIXELS, fitted_picture(data, size, max_pixels, decoders).tobytes()
    except MemoryError:
        return messages.REFUSED, _out_of_memory(data, limits)
    except PictureError as error:
        if error.reason in ("truncated_picture", "not_a_picture") and refused_allocation:
            return messages.REFUSED, _out_of_memory(data, limits)
        return messages.REFUSED, messages.encode_refusal(error.reason, str(error))


def _out_of_memory(data: bytes, limits: DecoderLimits) -> bytes:
    return messages.encode_refusal(
        "picture_too_costly",
        f"{len(data)} bytes that need more memory than a decoder may have, {limits.memory} bytes: "
        "send another file of the picture, or raise DECODER_MEMORY",
    )


def _read(length: int) -> bytearray:
    """Read `length` bytes; nothing if the pipe ends first."""
    buffer = bytearray(length)
    rest = memoryview(buffer)
    while rest:
        count = os.readv(PIPE, [rest])
        if not count:
            return bytearray()
        rest = rest[count:]
    return buffer


def _answer(kind: int, body: bytes) -> None:
    rest = memoryview(messages.ANSWER.pack(kind, len(body)) + body)
    while rest:
        rest = rest[os.write(PIPE, rest) :]


if __name__ == "__main__":
    main()
