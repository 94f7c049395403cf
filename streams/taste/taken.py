"""When a photo was taken, by its EXIF block. Reads a few bytes of the file, in Python: nothing is decoded."""

import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import BinaryIO

HEAD = 256 * 1024  # bytes in which the EXIF block of a JPEG, HEIC or AVIF begins
BLOCK = 64 * 1024  # bytes of an EXIF block; a JPEG has no longer one
MAX_CHUNKS = 1000  # of a PNG or WebP
MAX_ENTRIES = 1000  # of a directory in an EXIF block
EXIF_IFD, TIMES, ZONES = 0x8769, (0x9003, 0x9004, 0x0132), (0x9011, 0x9012, 0x9010)
"""Tags of CIPA DC-008: the directory of EXIF; the times when a picture was taken, digitized and changed; their time zones."""
ASCII, LONG = 2, 4  # TIFF types

_BLOCK = re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)")
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)")
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)")


def exif_block(file: BinaryIO, file_format: str) -> bytes:
    """The EXIF block of a picture file, without its `Exif` prefix; empty if none is found.

    Args:
        file: open at its start.
        file_format: as `model.containers.picture_format` names it.
    """
    if file_format == "PNG":
        return _chunk(file, 8, ">I4s", b"eXIf", 4)
    if file_format == "WEBP":
        return _chunk(file, 12, "<4sI", b"EXIF", 0).removeprefix(b"Exif\0\0")
    head = file.read(HEAD + BLOCK)
    found = _BLOCK.search(head, 0, HEAD)
    return head[found.end() : found.end() + BLOCK] if found else b""


def _chunk(file: BinaryIO, position: int, header: str, wanted: bytes, check: int) -> bytes:
    """The content of the first chunk of a kind.

    Args:
        file: a PNG or WebP.
        position: of the first chunk.
        header: layout of the length and the kind of a chunk.
        wanted: the kind.
        check: bytes of the checksum behind a chunk. Without one, a chunk has an even length.
    """
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        start = file.read(8)
        if len(start) < 8:
            break
        one, other = struct.unpack(header, start)
        kind, length = (one, other) if isinstance(one, bytes) else (other, one)
        if kind == wanted:
            return file.read(min(length, BLOCK))
        position += 8 + length + (check or length % 2)
    return b""


def time_taken(exif: bytes) -> datetime | None:
    """The time in an EXIF block; without a zone it is UTC. None if there is none, or it is no time."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    texts: dict[int, str] = {}
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        for tag, kind, value in _entries(exif, order, first):
            if tag == EXIF_IFD and kind == LONG:
                texts |= _texts(exif, order, value[1])
        texts |= _texts(exif, order, first)
    except struct.error:
        pass
    return next((time for time in map(_time, map(texts.get, TIMES), map(texts.get, ZONES)) if time), None)


def _entries(exif: bytes, order: str, directory: int) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
    """Tag, type, and (count, value or position, position of the value) of each entry of a directory."""
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for number in range(min(count, MAX_ENTRIES)):
        at = directory + 2 + 12 * number
        tag, kind, length, value = struct.unpack_from(order + "HHII", exif, at)
        yield tag, kind, (length, value, at + 8)


def _texts(exif: bytes, order: str, directory: int) -> dict[int, str]:
    """The texts of a directory that are times or zones, by tag."""
    found: dict[int, str] = {}
    for tag, kind, (length, value, inside) in _entries(exif, order, directory):
        if kind == ASCII and tag in (*TIMES, *ZONES):
            start = inside if length <= 4 else value
            found[tag] = exif[start : start + min(length, 40)].decode("ascii", errors="replace")
    return found


def _time(text: str | None, zone: str | None) -> datetime | None:
    found = _TIME.match(text or "")
    if found is None:
        return None
    offset = _ZONE.match(zone or "")
    written = "{}-{}-{}T{}:{}:{}".format(*found.groups()) + ("".join(offset.expand(r"\1\2:\3")) if offset else "+00:00")
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):  # 0000:00:00, or an hour of 25
        return None
