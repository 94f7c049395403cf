"""Builds picture files by hand, part by part."""

import io
import struct
import zlib

from PIL import Image


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(body)) + body


def jpeg(*segments: bytes) -> bytes:
    """A small red JPEG with extra segments at its start."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()[:2] + b"".join(segments) + file.getvalue()[2:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: bytes, *chunks: bytes) -> bytes:
    """A PNG: signature, header, chunks, end."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def gif_extension(label: int, body: bytes, block: int = 255) -> bytes:
    """A GIF extension in sub-blocks of `block` bytes."""
    pieces = (body[at : at + block] for at in range(0, len(body), block))
    return b"!" + bytes([label]) + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def gif(screen: tuple[int, int], before: bytes = b"", frame: tuple[int, int, int, int] = (0, 0, 1, 1)) -> bytes:
    """A GIF with one frame (left, top, width, height). The pixel data is that of a frame of 1 x 1."""
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return header + before + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x44\x01\x00;"


def riff(body: bytes) -> bytes:
    """A WebP with these chunks."""
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def box(kind: bytes, body: bytes) -> bytes:
    """An AVIF box."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def resized(avif: bytes, payload: bytes) -> bytes:
    """`avif` with another payload in its only item. The length may differ."""
    pixels = avif.index(b"mdat") + 4
    old = struct.pack(">I", len(avif) - pixels)
    head = avif[: pixels - 8].replace(old, struct.pack(">I", len(payload)))
    return head + struct.pack(">I", 8 + len(payload)) + b"mdat" + payload


def bits_of(*fields: tuple[int, int]) -> bytes:
    """Fields (value, number of bits) as bytes, most significant bit first."""
    text = "".join(f"{value:0{bits}b}" for value, bits in fields)
    return int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big")
