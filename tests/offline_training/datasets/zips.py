"""ZIP archives of pictures, whole and hostile."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
FLAGS = {LOCAL: 6, CENTRAL: 8}  # where they stand in a header
SIZE = {LOCAL: 22, CENTRAL: 24}  # unpacked


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _edited(path: Path, name: str, place: Mapping[bytes, int], value: bytes) -> None:
    """Write `value` at its place in both headers of a member."""
    data = bytearray(path.read_bytes())
    for signature, before_name in ((LOCAL, 30), (CENTRAL, 46)):
        header = data.index(name.encode(), 0 if signature == LOCAL else data.index(CENTRAL)) - before_name
        assert data[header : header + 4] == signature
        data[header + place[signature] : header + place[signature] + len(value)] = value
    path.write_bytes(data)


def encrypt(path: Path, name: str) -> None:
    """Only says so."""
    _edited(path, name, FLAGS, struct.pack("<H", 1))


def claim(path: Path, name: str, size: int) -> None:
    """Another size than it has."""
    _edited(path, name, SIZE, struct.pack("<I", size))


def damage(path: Path, name: str) -> None:
    """Bytes of the member itself."""
    data = bytearray(path.read_bytes())
    at = data.index(name.encode()) + len(name) + 4
    data[at : at + 4] = bytes(255 - one for one in data[at : at + 4])
    path.write_bytes(data)


def bomb(size: int) -> bytes:
    """What packs well: a thousandth of its size."""
    assert len(zlib.compress(bytes(size))) < size // 500
    return bytes(size)
