"""When a photo was taken: the files of somebody's folder, and the EXIF blocks in them."""

import io
from datetime import UTC, datetime

from model.containers import picture_format
from streams.taste.taken import BLOCK, exif_block, time_taken
from tests.fuzz import containers
from tests.streams.taste.made import exif

YEARS = range(1, 10_000)


def seeds() -> list[bytes]:
    """EXIF blocks by themselves, and small pictures of each format."""
    times = [
        ("2024:05:06 07:08:09", "+02:00"),
        ("0000:00:00 00:00:00", ""),
        ("9999:12:31 23:59:59", "-23:59"),
        ("", ""),
    ]
    return [*(exif(6, taken, zone).removeprefix(b"Exif\0\0") for taken, zone in times), *containers.seeds()]


def check(data: bytes) -> str:
    """Find the time in a block and in a file. A time that was read is the same when it is written into another block."""
    name = picture_format(data)
    block = exif_block(io.BytesIO(data), name) if name else data
    assert len(block) <= max(BLOCK, len(data))
    found = time_taken(block)
    if found is None:
        return f"{name} no time"
    assert found.tzinfo is UTC
    assert found.year in YEARS
    written = f"{found.year:04}:{found:%m:%d %H:%M:%S}"
    assert time_taken(exif(1, written, "+00:00").removeprefix(b"Exif\0\0")) == found == found.astimezone(UTC)
    return f"{name} accepted {found < datetime(2100, 1, 1, tzinfo=UTC)}"
