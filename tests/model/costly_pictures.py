"""Measures the costliest file of each kind, within 10 MiB and 25 megapixels.

`python -m tests.model.costly_pictures` decodes each file in its own process. It prints seconds of CPU, peak memory, and the
longest pause of another thread.
"""

import io
import json
import math
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from time import perf_counter, process_time, sleep
from typing import TypedDict

import numpy as np
from PIL import Image

from model.exceptions import PictureError
from model.limits import MAX_PICTURE_BYTES, MAX_PIXELS
from model.preprocessing import decode_picture
from tests.model.containers import gif, gif_extension, jpeg, png, png_chunk, riff, segment
from tests.usage import peak_resident_mb

SIDE = math.isqrt(MAX_PIXELS)  # of the largest square picture, 5000 pixels
SIZE = 224


def noise(mode: str, side: int = SIDE, coarse: int = 4) -> Image.Image:
    """Noise that most encoders compress to less than 10 MB."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    small = np.random.default_rng(0).integers(0, 255, (side // coarse, side // coarse, bands), np.uint8)
    picture = Image.fromarray(small.squeeze()) if bands < 4 or mode == "RGBA" else Image.fromarray(small, mode)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def many_scans(scans: int, side: int = SIDE) -> bytes:
    """A progressive JPEG whose `scans` scans change nothing, but make the decoder visit all coefficients of all blocks.

    Each scan has one Huffman code, the bit 0 for `E0`: a run of 16,384 or more empty blocks. 14 further bits make it 32,767.
    """
    whole = saved(Image.new("RGB", (side, side), "red"), "JPEG", progressive=True, subsampling=0)
    first = whole.count(b"\xff\xda")
    table = segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
    runs = int("011111111111111" * (-(-((side // 8) ** 2) // 32_767) + 1), 2)
    bits = 15 * (-(-((side // 8) ** 2) // 32_767) + 1)
    data = (runs << -bits % 8).to_bytes((bits + 7) // 8, "big").replace(b"\xff", b"\xff\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x01\x3f\x10") + data
    return whole[:-2] + table + scan * (scans - first) + b"\xff\xd9"


def raw_png(bits: int, colour: int, channels: int, *, interlaced: bool, side: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A PNG of zeros."""
    width, height = side
    passes = [(1, 1)] if not interlaced else [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)]
    deflate = zlib.compressobj(1)
    rows = b""
    for across, down in passes:
        row = b"\x04" + bytes((-(-width // across) * bits * channels + 7) // 8)  # filter 4, Paeth, is the slowest
        rows += deflate.compress(row * -(-height // down))
    rows += deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    palette = [png_chunk(b"PLTE", bytes(768)), png_chunk(b"tRNS", bytes(256))] if colour == 3 else []
    return png(header, *palette, png_chunk(b"IDAT", rows))


def filled(head: bytes, part: bytes, tail: bytes) -> bytes:
    """`head`, as many parts as fit into the limit, and `tail`."""
    return head + part * ((MAX_PICTURE_BYTES - len(head) - len(tail)) // len(part)) + tail


def png_full_of(part: bytes) -> bytes:
    small = png(struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), png_chunk(b"IDAT", zlib.compress(bytes(25 * 8))))
    return filled(small[:33], part, small[33:])


def jpeg_full_of(part: bytes) -> bytes:
    small = jpeg()
    return filled(small[:2], part, small[2:])


def animated_webp() -> bytes:
    """A WebP with a canvas of 25 megapixels and frames of one pixel."""
    pixel = saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(pixel)) + bytes(16) + pixel
    size = struct.pack("<I", SIDE - 1)[:3]
    return riff(b"VP8X\x0a\0\0\0" + b"\x12\0\0\0" + size * 2 + b"ANIM\x06\0\0\0" + bytes(6) + frame * 100_000)


COSTLY: dict[str, Callable[[], bytes]] = {
    "JPEG baseline": lambda: saved(noise("RGB"), "JPEG", quality=60, subsampling=0),
    "JPEG progressive 4:4:4": lambda: saved(noise("RGB"), "JPEG", quality=60, subsampling=0, progressive=True),
    "JPEG progressive CMYK": lambda: saved(noise("CMYK"), "JPEG", quality=20, progressive=True),
    "JPEG of 50 scans": lambda: many_scans(50),
    "JPEG of 1000 scans": lambda: many_scans(1000),
    "JPEG line of 381 x 65500, progressive": lambda: saved(
        noise("RGB").resize((381, 65500)), "JPEG", quality=60, subsampling=0, progressive=True
    ),
    "JPEG EXIF segments of 10 bytes": lambda: jpeg_full_of(segment(0xE1, b"Exif\0\0" + b"x" * 10)),
    "JPEG EXIF segments of 64 KB": lambda: jpeg_full_of(segment(0xE1, b"Exif\0\0" + b"II*\0" + bytes(65_000))),
    "JPEG quantization tables": lambda: jpeg_full_of(segment(0xDB, (b"\0" + b"\1" * 64) * 1000)),
    "JPEG junk before the frame": lambda: jpeg_full_of(b"x"),
    "PNG RGB": lambda: raw_png(8, 2, 3, interlaced=False),
    "PNG RGB noise": lambda: saved(noise("RGB", coarse=40), "PNG"),
    "PNG RGBA, interlaced": lambda: raw_png(8, 6, 4, interlaced=True),
    "PNG RGBA of 16 bits, interlaced": lambda: raw_png(16, 6, 4, interlaced=True),
    "PNG grey of 16 bits": lambda: raw_png(16, 0, 1, interlaced=False),
    "PNG grey and alpha": lambda: raw_png(8, 4, 2, interlaced=False),
    "PNG palette with alpha": lambda: raw_png(8, 3, 1, interlaced=True),
    "PNG of 381 x 65535": lambda: raw_png(8, 6, 4, interlaced=False, side=(381, 65_535)),
    "PNG of 1 x 25,000,000": lambda: raw_png(8, 6, 4, interlaced=False, side=(1, 25_000_000)),
    "PNG zTXt of 1 MB each": lambda: png_full_of(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))),
    "PNG iCCP of 1 MB each": lambda: png_full_of(png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))),
    "PNG empty chunks": lambda: png_full_of(png_chunk(b"spAm", b"")),
    "PNG of IDAT of one byte": lambda: png(
        struct.pack(">IIBBBBB", 500, 500, 8, 2, 0, 0, 0),
        *(png_chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(random.Random(0).randbytes(700_000), 1)),
    ),
    "GIF": lambda: saved(noise("L", coarse=60).convert("P"), "GIF"),
    "GIF with transparency": lambda: saved(Image.new("P", (SIDE, SIDE)), "GIF", transparency=0),
    "GIF canvas of 25 MP, frame of one": lambda: gif((SIDE, SIDE)),
    "GIF comment of blocks of one byte": lambda: gif((8, 8), gif_extension(0xFE, b"x" * 5_000_000, block=1)),
    "GIF extensions": lambda: gif((8, 8), b"!\xf0\x01x\0" * 2_000_000),
    "WebP lossy": lambda: saved(noise("RGB"), "WEBP", quality=60, method=0),
    "WebP lossless": lambda: saved(noise("RGB", coarse=50), "WEBP", lossless=True, method=0, quality=0),
    "WebP lossless with alpha": lambda: saved(noise("RGBA", coarse=60), "WEBP", lossless=True, method=0, quality=0),
    "WebP canvas of 25 MP, frames of one": animated_webp,
    "AVIF 4:2:0": lambda: saved(noise("RGB", coarse=8), "AVIF", quality=60, speed=10),
    "AVIF 4:4:4 with alpha": lambda: saved(noise("RGBA", coarse=8), "AVIF", quality=60, subsampling="4:4:4", speed=10),
    "AVIF flat": lambda: saved(Image.new("RGB", (SIDE, SIDE), "red"), "AVIF", quality=60, speed=10),
}


class Figures(TypedDict):
    """Measurements of decoding one file. `pause_s` is the longest pause of another thread."""

    bytes: int
    outcome: str
    cpu_s: float
    peak_mb: int
    pause_s: float


def measured(data: bytes) -> Figures:
    """Decode `data` in this process and measure it."""
    pauses: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = perf_counter()
        while not done.is_set():
            sleep(0.001)
            now = perf_counter()
            pauses.append(now - last)
            last = now

    ticker = threading.Thread(target=tick)
    decode_picture(saved(Image.new("RGB", (8, 8)), "PNG"), SIZE)
    before = peak_resident_mb()
    ticker.start()
    started = process_time()
    try:
        outcome = str(decode_picture(data, SIZE).shape)
    except PictureError as error:
        outcome = error.reason
    seconds = process_time() - started
    done.set()
    ticker.join()
    return {
        "bytes": len(data),
        "outcome": outcome,
        "cpu_s": round(seconds, 2),
        "peak_mb": round(peak_resident_mb() - before),
        "pause_s": round(max(pauses), 2),
    }


def measured_apart(data: bytes, timeout: float) -> Figures:
    """Decode `data` in a new process and measure it."""
    program = "import sys, json; from tests.model.costly_pictures import measured; print(json.dumps(measured(sys.stdin.buffer.read())))"
    child = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, timeout=timeout, check=True
    )
    return json.loads(child.stdout)


def main() -> None:
    for name in sys.argv[1:] or COSTLY:
        data = COSTLY[name]()
        try:
            row = measured_apart(data, timeout=300)
        except subprocess.SubprocessError as error:
            row = error
        print(f"{name:45}", row, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
