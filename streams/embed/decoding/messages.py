"""The messages between a worker and a decoder process: each is a header and a body, on a stream.

Once a picture has run code in it, a decoder process sends what it likes. So the worker takes exactly the forms below, and
makes text safe before it uses it. Imports nothing heavy: the process loads it.
"""

import struct
from typing import NamedTuple

REQUEST = struct.Struct(">QQQ")
"""Header of a request: bytes of the picture, side of the square, maximum pixels. The picture follows."""

ANSWER = struct.Struct(">BI")
"""Header of an answer: its kind, and bytes of its body."""

READY, PIXELS, REFUSED = range(3)
"""Kinds of answers. The first is READY; its body says why system calls are not filtered, or is empty. Then there is one
answer to each request: PIXELS, uint8 [size, size, 3], or REFUSED, a reason and a message."""

MAX_TEXT = 4096  # bytes of a body that is text

REASONS = frozenset(
    {"not_a_picture", "truncated_picture", "picture_too_large", "picture_too_complex", "picture_too_costly"}
)
"""The reasons for which a decoder process may refuse a picture."""


class Refusal(NamedTuple):
    """Why there are no pixels."""

    reason: str
    message: str


def encode_refusal(reason: str, message: str) -> bytes:
    """The body of a refusal; a long message is cut."""
    return f"{reason}\n{message}".encode(errors="replace")[:MAX_TEXT]


def decode_refusal(body: bytes) -> Refusal:
    """The refusal in a body.

    Raises:
        ValueError: the reason is not one of `REASONS`.
    """
    reason, _, message = body.decode(errors="replace").partition("\n")
    if reason not in REASONS:
        raise ValueError(f"unknown reason {reason[:40]!r}")
    return Refusal(reason, message)
