"""Makes ZIP archives of pictures, intact and hostile."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
FLAGS = {LOCAL: 6, CENTRAL: 8}  # offset of the flags in a header
SIZE = {LOCAL: 22, CENTRAL: 24}  # offset of the decompressed size


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _edit(path: Path, name: str, offsets: Mapping[bytes, int], value: bytes) -> None:
    """Write `value` at its offset in both headers of a member."""
    data = bytearray(path.read_bytes())
    for signature, before_name in ((LOCAL, 30), (CENTRAL, 46)):
        header = data.index(name.encode(), 0 if signature == LOCAL else data.index(CENTRAL)) - before_name
        assert data[header : header + 4] == signature
        data[header + offsets[signature] : header + offsets[signature] + len(value)] = value
    path.write_bytes(data)


def encrypt(path: Path, name: str) -> None:
    """Set the encryption flag, without encrypting."""
    _edit(path, name, FLAGS, struct.pack("<H", 1))


def claim(path: Path, name: str, size: int) -> None:
    """Claim another size than the member has."""
    _edit(path, name, SIZE, struct.pack("<I", size))


def damage(path: Path, name: str) -> None:
    """Damage bytes of the member itself."""
    data = bytearray(path.read_bytes())
    at = data.index(name.encode()) + len(name) + 4
    data[at : at + 4] = bytes(255 - one for one in data[at : at + 4])
    path.write_bytes(data)


def bomb(size: int) -> bytes:
    """Make bytes that compress to a thousandth of their size."""
    assert len(zlib.compress(bytes(size))) < size // 500
    return bytes(size)
