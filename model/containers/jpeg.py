"""Parses JPEG (ITU-T T.81, annex B): segments, then scans of entropy-coded data with segments between them."""

import re
import struct

from model.containers.contents import Contents, count_part
from model.exceptions import PictureError

MAX_SCANS = 50
"""Maximum number of scans. A scan of 40 bytes can make the decoder visit all coefficients, 28 ms at 25 megapixels: 10 MB of
them take hours. Encoders write about ten scans."""

MAX_TABLES = 65_536
"""Maximum length of frame, tables and colour segments before the first scan, bytes. Pillow unpacks tables in Python. Eight
Huffman tables and four quantization tables take less than 3 KB."""

SOI, EOI, SOS, DNL, APP0, APP1, APP14, COMMENT = 0xD8, 0xD9, 0xDA, 0xDC, 0xE0, 0xE1, 0xEE, 0xFE
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
"""Huffman tables, arithmetic conditioning, quantization tables, the restart interval."""
COLOURS = frozenset({APP0, APP14})
"""JFIF and Adobe segments: they define the colours of the components."""
METADATA = frozenset({*range(APP0, 0xF0), COMMENT, DNL})
ALONE = frozenset(range(0xD0, 0xD8))
"""Restart markers have no segment. Other markers start a segment that states its length."""

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
EXIF = b"Exif\x00\x00"


def read(data: bytes) -> Contents:
    """Keep the frame, the tables, the scans, and the application segments that define the colours.

    Raises:
        ValueError, struct.error: If there is no picture.
        PictureError: `picture_too_complex` for too many segments, tables or scans.
    """
    kept = [data[:2]]
    tables = 0
    canvas: tuple[int, int] | None = None
    exif: list[bytes] = []
    parts = 0
    position = 2
    while True:
        parts = count_part(parts)
        marker, start, end = _segment(data, position, _MARKER)
        position = end
        if marker in ALONE:
            continue
        if marker == SOS:
            break
        if marker in FRAMES:
            if canvas is not None:
                raise ValueError("two frames")
            height, width = struct.unpack_from(">HH", data[start:end], 5)  # never of what follows a short segment
            canvas = width, height
        elif marker == APP1 and data.startswith(EXIF, start + 4):
            exif.append(data[start + 4 + len(EXIF) : end])
        if marker in FRAMES or marker in TABLES or marker in COLOURS:
            tables += end - start
            kept.append(data[start:end])
        elif marker not in METADATA:
            raise ValueError(f"the marker {marker:#04x} before the first scan")
    if canvas is None:
        raise ValueError("a scan before a frame")
    if tables > MAX_TABLES:
        raise PictureError(
            "picture_too_complex",
            f"a JPEG with {tables} bytes of tables, over the limit of {MAX_TABLES}: save it again",
        )
    kept.append(data[start : _end_of_scans(data, start, parts)])
    return Contents(*canvas, b"".join(kept), b"".join(exif))


def _end_of_scans(data: bytes, position: int, parts: int) -> int:
    """Return the end of the picture whose first scan is at `position`: after its end marker, or at the end of the file."""
    scans = 0
    while True:
        try:
            marker, _, position = _segment(data, position, _MARKER_IN_SCAN)
        except (ValueError, struct.error):
            return len(data)
        parts = count_part(parts)
        if marker == EOI:
            return position
        scans += marker == SOS
        if scans > MAX_SCANS:
            raise PictureError(
                "picture_too_complex", f"a JPEG of more than {MAX_SCANS} scans: save it as a baseline JPEG"
            )


def _segment(data: bytes, position: int, pattern: re.Pattern[bytes]) -> tuple[int, int, int]:
    """Return (marker, start, end) of the next segment. Skip bytes before it, as libjpeg does."""
    found = pattern.search(data, position)
    if found is None:
        raise ValueError("the file ends before the picture")
    marker = found[1][0]
    if marker in ALONE or marker < 0xC0 or marker in (SOI, EOI):
        return marker, found.start(), found.end()
    (length,) = struct.unpack_from(">H", data, found.end())
    if length < 2:
        raise ValueError(f"a segment of {length} bytes")
    return marker, found.start(), found.end() + length
