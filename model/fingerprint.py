"""A sample of a set of names, small enough for a manifest, that tells how much of another set is in it. Pure.

Each name has a hash of 64 bits. The sample keeps the names whose hash begins with `zeros` zero bits: just as many zeros as leave
at most `KEPT` names. Of another set, the names with as many zeros are compared: those are a random part of it. So the share that is
known is an estimate where `zeros` is above 0, and exact otherwise.

The sample holds no names. Somebody who has it can still ask whether a name that they know is in it.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

KEPT = 4096
"""Largest number of names in a sample. 16 KiB, and two estimates of a share differ by about one in a hundred."""
BITS = 32  # kept of each hash, behind its zeros: one in a million names that are compared is taken for another one
DAY = 86_400_000  # milliseconds


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sample of a set of names."""

    zeros: Annotated[int, msgspec.Meta(ge=0, le=BITS)]
    """Number of zero bits at the beginning of the hashes of the names that are kept."""
    kept: Annotated[bytes, msgspec.Meta(max_length=KEPT * BITS // 8)]
    """The next 32 bits of their hashes: big-endian, ascending. Base64 in JSON."""

    def __post_init__(self) -> None:
        """Raise ValueError when `kept` is cut."""
        if len(self.kept) % (BITS // 8):
            raise ValueError(f"expected {BITS // 8} bytes for each name, found {len(self.kept)} bytes")

    def __len__(self) -> int:
        return len(self.kept) * 8 // BITS


class Known(NamedTuple):
    """How many of the names that could be compared are in the sample."""

    known: int
    compared: int

    @property
    def share(self) -> float:
        """Share of the names that are known. 0 when none could be compared."""
        return self.known / self.compared if self.compared else 0.0


def event_name(user: str, item: str, milliseconds: int) -> str:
    """Return the name of an event: the user, the item and the day (UTC). A stream that is played at other times of day has the same."""
    return f"{user}\0{item}\0{milliseconds // DAY}"


def fingerprint(names: Iterable[str]) -> Fingerprint:
    """Take the sample of a set of names. The order of the names, and names that come twice, change nothing."""
    hashes = _hashes(names)
    zeros = 0
    while zeros < BITS and np.count_nonzero(_begin_with(hashes, zeros)) > KEPT:
        zeros += 1
    return Fingerprint(zeros, _next_bits(hashes[_begin_with(hashes, zeros)], zeros)[:KEPT].astype(">u4").tobytes())


def known_in(sample: Fingerprint, names: Iterable[str]) -> Known:
    """Count the distinct names that the sample can tell about, and those of them that it has."""
    hashes = _hashes(names)
    compared = _next_bits(hashes[_begin_with(hashes, sample.zeros)], sample.zeros)
    return Known(int(np.isin(compared, np.frombuffer(sample.kept, ">u4")).sum()), len(compared))


def _hashes(names: Iterable[str]) -> NDArray[np.uint64]:
    """Return the distinct hashes, ascending."""
    joined = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in set(names))
    return np.unique(np.frombuffer(joined, ">u8")).astype(np.uint64)


def _begin_with(hashes: NDArray[np.uint64], zeros: int) -> NDArray[np.bool_]:
    return hashes >> np.uint64(64 - zeros) == 0 if zeros else np.ones(len(hashes), bool)


def _next_bits(hashes: NDArray[np.uint64], zeros: int) -> NDArray[np.uint32]:
    return (hashes >> np.uint64(64 - zeros - BITS)).astype(np.uint32)  # bits above the lowest 32 are the zeros
