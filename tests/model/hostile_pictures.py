"""Hostile picture files, each with the reason for which it is refused, or None if it is decoded.

`hostile_pictures()` returns all of them. Run as a program, this module decodes them and mutations of valid pictures, and
prints the outcomes and the memory use as JSON.
"""

import faulthandler
import gzip
import io
import itertools
import json
import random
import struct
import sys
import time
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from tests.model.containers import bits_of, box, gif, gif_extension, jpeg, png, png_chunk, resized, riff, segment
from tests.usage import resident_mb

SIZE = 96
CATALOGUE = Path(__file__).parents[2] / "streams" / "demo" / "catalogue"
COMPLEX, LARGE, NONE, CUT = "picture_too_complex", "picture_too_large", "not_a_picture", "truncated_picture"
REASONS = frozenset({COMPLEX, LARGE, NONE, CUT})
HANGS = 200.0  # seconds after which the program prints its stack and exits
PARTS = 25_000  # more than MAX_PARTS
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", *(["AVIF"] if features.check("avif") else []))


class Hostile(NamedTuple):
    """A file, and the reason of its refusal. None: it is decoded."""

    data: bytes
    reason: str | None


QUICKLY: dict[str, dict[str, object]] = {"AVIF": {"speed": 10}, "PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
"""What makes an encoder quick. The files become larger; their decoder does the same."""


def saved(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **(QUICKLY.get(file_format, {}) | options))
    return file.getvalue()


@cache
def sound(file_format: str, side: int = 200) -> bytes:
    """A valid photo in this format."""
    with Image.open(CATALOGUE / "red-boxing-gloves.jpg") as photo:
        return saved(photo.convert("RGB").resize((side, side * 3 // 4)), file_format)


@cache
def hostile_pictures() -> dict[str, Hostile]:
    """All hostile files by a name that describes them."""
    return cut() | strangers() | jpegs() | pngs() | gifs() | webps() | (avifs() if "AVIF" in FORMATS else {})


def cut() -> dict[str, Hostile]:
    """Every format, truncated or with trailing garbage."""
    with Image.open(io.BytesIO(sound("PNG"))) as photo:
        whole = {name: sound(name) for name in FORMATS} | {
            "progressive JPEG": saved(photo, "JPEG", progressive=True),
            "interlaced GIF": saved(photo, "GIF", interlace=True),
            "lossless WEBP": saved(photo, "WEBP", lossless=True),
            "animated WEBP": saved(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)]),
        }
    pieces = {
        f"{name} cut at {tenth} tenths": Hostile(data[: len(data) * tenth // 10], CUT)
        for (name, data), tenth in itertools.product(whole.items(), range(1, 10))
    }
    signatures = {f"{name}: the signature alone": Hostile(sound(name)[:12], NONE) for name in FORMATS}
    longer = {
        f"{name} with garbage behind": Hostile(data + random.Random(0).randbytes(5000), None)
        for name, data in whole.items()
    }
    return pieces | signatures | longer | {"nothing": Hostile(b"", NONE), "one byte": Hostile(b"\xff", NONE)}


def strangers() -> dict[str, Hostile]:
    """Files of other formats, and files that are valid in two formats."""
    archive = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    script = b"<script>alert(1)</script>"
    plain = Image.new("RGB", (8, 8), "red")
    other = {
        "HTML": b"<!DOCTYPE html><html>not found</html>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "SVG, gzipped": gzip.compress(b"<svg/>"),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file",
        "PDF": b"%PDF-1.7\n1 0 obj<<>>endobj",
        "ZIP": archive,
        "WAVE in RIFF": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        "HEIC": box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(100),
        **{name: saved(plain, name) for name in ("BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "ICNS")},
        "JPEG behind a PNG's signature": b"\x89PNG\r\n\x1a\n" + sound("JPEG"),
        "PNG behind a JPEG's signature": b"\xff\xd8\xff" + sound("PNG"),
        "WebP behind a GIF's signature": b"GIF89a" + sound("WEBP"),
        "JPEG behind a page": script + sound("JPEG"),
    }
    two = {
        "JPEG and ZIP": sound("JPEG") + archive,
        "PNG and ZIP": sound("PNG") + archive,
        "GIF and ZIP": sound("GIF") + archive,
        "two JPEGs": sound("JPEG") * 2,
        "JPEG with a page in a comment": jpeg(segment(0xFE, script)),
        "PNG with a page in a text": small_png(png_chunk(b"tEXt", b"Comment\0" + script)),
        "GIF with a page in a comment": gif((8, 8), gif_extension(0xFE, script)),
    }
    return {name: Hostile(data, NONE) for name, data in other.items()} | {
        name: Hostile(data, None) for name, data in two.items()
    }


def jpegs() -> dict[str, Hostile]:
    small = jpeg()
    sof, sos = small.index(b"\xff\xc0"), small.index(b"\xff\xda")
    progressive = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    scan = segment(0xDA, b"\x01\x01\0\x01\x3f\0")

    def frame(at: int, data: bytes) -> bytes:
        """`small` with `data` written into its frame header at byte `at`."""
        return small[: sof + at] + data + small[sof + at + len(data) :]

    ifd = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000)
    ifd += b"".join(struct.pack("<HHII", tag, 1, 60_000, 8) for tag in range(5000))
    return {
        "JPEG of 65,535 x 65,535": Hostile(frame(5, b"\xff\xff\xff\xff"), LARGE),
        "JPEG without height": Hostile(frame(5, b"\0\0"), NONE),
        "JPEG without width": Hostile(frame(7, b"\0\0"), NONE),
        "JPEG of 12 bits": Hostile(frame(4, b"\x0c"), NONE),
        "JPEG of 255 components": Hostile(frame(9, b"\xff"), NONE),
        "JPEG, sampled by 15": Hostile(frame(11, b"\xff"), CUT),
        "JPEG with two frames": Hostile(small[:sos] + small[sof:], NONE),
        "JPEG without a frame": Hostile(small[:2] + small[sos:], NONE),
        "JPEG without a scan": Hostile(small[:sos], NONE),
        "JPEG without Huffman tables": Hostile(small[: small.index(b"\xff\xc4")] + small[sos:], None),
        "JPEG without quantization tables": Hostile(small[: small.index(b"\xff\xdb")] + small[sof:], CUT),
        "JPEG with a segment of no length": Hostile(jpeg(b"\xff\xe5\0\0"), NONE),
        "JPEG of 3,000 scans": Hostile(progressive[:-2] + scan * 3000 + b"\xff\xd9", COMPLEX),
        "JPEG of 51 scans": Hostile(progressive[:-2] + scan * 50 + b"\xff\xd9", COMPLEX),
        "JPEG with tables between scans": Hostile(
            progressive[:-2] + segment(0xC4, b"\x1f\x01" + bytes(15) + b"\xe0") * PARTS + b"\xff\xd9", COMPLEX
        ),
        "JPEG of EXIF segments": Hostile(jpeg(segment(0xE1, b"Exif\0\0" + bytes(10)) * PARTS), COMPLEX),
        "JPEG of empty comments": Hostile(jpeg(segment(0xFE, b"") * PARTS), COMPLEX),
        "JPEG with 64,000 bytes of EXIF, a hundred times": Hostile(
            jpeg(segment(0xE1, b"Exif\0\0" + bytes(64_000)) * 100), None
        ),
        "JPEG of quantization tables": Hostile(jpeg(segment(0xDB, (b"\0" + b"\1" * 64) * 1000) * 20), COMPLEX),
        "JPEG with EXIF tags that overlap": Hostile(jpeg(segment(0xE1, ifd[:65_000])), None),
        "JPEG with a profile in pieces that lack": Hostile(
            jpeg(segment(0xE2, b"ICC_PROFILE\0\x05\x09" + bytes(99))), None
        ),
        "JPEG with Photoshop blocks that overlap": Hostile(
            jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\xff\xff\xff\xff" * 99)), None
        ),
        "JPEG with junk before the frame": Hostile(small[:sof] + b"junk" * 999 + b"\xff" * 99 + small[sof:], None),
        "JPEG of one pixel by 65,500": Hostile(saved(Image.new("RGB", (1, 65_500)), "JPEG"), None),
    }


def header(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)


PIXELS = png_chunk(b"IDAT", zlib.compress(bytes(8 * 25)))


def small_png(*chunks: bytes) -> bytes:
    """A PNG of 8 x 8 pixels, with chunks before the pixel data."""
    return png(header(8, 8), *chunks, PIXELS)


def pngs() -> dict[str, Hostile]:
    megabyte = zlib.compress(bytes(1_000_000), 9)
    bomb = zlib.compress(bytes(50_000_000), 9)
    small = small_png()
    return {
        "PNG of 50,000 x 50,000": Hostile(png(header(50_000, 50_000), PIXELS), LARGE),
        "PNG of 2,147,483,647 squared": Hostile(png(header(2**31 - 1, 2**31 - 1), PIXELS), LARGE),
        "PNG of one pixel by 25 million": Hostile(png(header(1, 25_000_000), PIXELS), LARGE),
        "PNG of 65,535 by one pixel": Hostile(saved(Image.new("RGB", (65_535, 1)), "PNG"), None),
        "PNG without width": Hostile(png(header(0, 8), PIXELS), NONE),
        "PNG without height": Hostile(png(header(8, 0), PIXELS), NONE),
        "PNG of 3 bits": Hostile(png(header(8, 8, bits=3), PIXELS), NONE),
        "PNG of colour type 5": Hostile(png(header(8, 8, colour=5), PIXELS), NONE),
        "PNG with a second header": Hostile(small_png(png_chunk(b"IHDR", header(9000, 9000))), NONE),
        "PNG without a header": Hostile(small[:8] + small[33:], NONE),
        "PNG whose header's checksum is wrong": Hostile(small[:29] + b"\0\0\0\0" + small[33:], NONE),
        "PNG of the header alone": Hostile(small[:33], NONE),
        "PNG without pixels": Hostile(png(header(8, 8)), CUT),
        "PNG without an end": Hostile(small[:-12], None),
        "PNG with too few pixels": Hostile(png(header(80, 80), PIXELS), CUT),
        "PNG with 50 MB more pixels than it shows": Hostile(png(header(8, 8), png_chunk(b"IDAT", bomb)), None),
        "PNG of pixels that do not inflate": Hostile(png(header(8, 8), png_chunk(b"IDAT", b"x" * 99)), CUT),
        "PNG of empty pixels": Hostile(png(header(8, 8), png_chunk(b"IDAT", b"") * 999, PIXELS), None),
        "PNG of empty pixels, many": Hostile(png(header(8, 8), png_chunk(b"IDAT", b"") * PARTS, PIXELS), COMPLEX),
        "PNG of many chunks": Hostile(small_png(png_chunk(b"spAm", b"") * PARTS), COMPLEX),
        "PNG with a chunk of 4 GB": Hostile(small_png(b"\xff\xff\xff\xffspAm"), NONE),
        "PNG with text that inflates to 50 MB": Hostile(small_png(png_chunk(b"zTXt", b"k\0\0" + bomb)), None),
        "PNG with 99 texts of 1 MB": Hostile(small_png(png_chunk(b"zTXt", b"k\0\0" + megabyte) * 99), None),
        "PNG with international text of 50 MB": Hostile(small_png(png_chunk(b"iTXt", b"k\0\1\0\0\0" + bomb)), None),
        "PNG with 999 profiles of 1 MB": Hostile(small_png(png_chunk(b"iCCP", b"k\0\0" + megabyte) * 999), None),
        "PNG with a text that calls itself transparency": Hostile(small_png(png_chunk(b"tEXt", b"transparency\0no")), None),
        "PNG with a text that calls itself bbox": Hostile(small_png(png_chunk(b"tEXt", b"bbox\0no")), None),
        "PNG of a palette without it": Hostile(png(header(8, 8, colour=3), png_chunk(b"IDAT", zlib.compress(bytes(72)))), CUT),
        "PNG of a palette of one colour": Hostile(
            png(header(8, 8, colour=3), png_chunk(b"PLTE", b"abc"), png_chunk(b"IDAT", zlib.compress(b"\0zzzzzzzz" * 8))), None
        ),
        "PNG of a palette with too much transparency": Hostile(
            png(
                header(8, 8, colour=3), png_chunk(b"PLTE", bytes(9)), png_chunk(b"tRNS", bytes(9999)),
                png_chunk(b"IDAT", zlib.compress(bytes(72))),
            ), CUT,
        ),
        "PNG with an animation's frame beyond its canvas": Hostile(
            small_png(png_chunk(b"acTL", struct.pack(">II", 2, 0)), png_chunk(b"fcTL", struct.pack(">IIIII6x", 0, 9000, 9000, 0, 0))),
            NONE,
        ),
        "PNG that says it has 2 billion frames": Hostile(small_png(png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), None),
    }  # fmt: skip


def gifs() -> dict[str, Hostile]:
    whole = sound("GIF")
    frames = [Image.new("P", (8, 8), number) for number in range(200)]
    return {
        "GIF of 65,535 x 65,535": Hostile(gif((65_535, 65_535)), LARGE),
        "GIF of 5,001 x 5,000": Hostile(gif((5001, 5000)), LARGE),
        "GIF with a frame of 50,000 x 50,000": Hostile(gif((8, 8), frame=(0, 0, 50_000, 50_000)), LARGE),
        "GIF with a frame far out": Hostile(gif((8, 8), frame=(60_000, 60_000, 1, 1)), LARGE),
        "GIF of no size": Hostile(gif((0, 0), frame=(0, 0, 0, 0)), NONE),
        "GIF with an empty frame": Hostile(gif((8, 8), frame=(0, 0, 0, 0)), CUT),
        "GIF with too few pixels": Hostile(gif((80, 80), frame=(0, 0, 80, 80)), CUT),
        "GIF without a frame": Hostile(whole[:13] + bytes(768) + b";", NONE),
        "GIF of the screen alone": Hostile(whole[:13], NONE),
        "GIF with a comment of 12,500 blocks": Hostile(gif((8, 8), gif_extension(0xFE, b"x" * 12_500, block=1)), None),
        "GIF with a comment of 25,000 blocks": Hostile(
            gif((8, 8), gif_extension(0xFE, b"x" * PARTS, block=1)), COMPLEX
        ),
        "GIF of many extensions": Hostile(gif((8, 8), gif_extension(0xF0, b"") * PARTS), COMPLEX),
        "GIF with a comment without end": Hostile(gif((8, 8), b"!\xfe" + b"\xff" * 500), NONE),
        "GIF with an empty control": Hostile(gif((8, 8), b"!\xf9\0"), NONE),
        "GIF with an empty loop": Hostile(gif((8, 8), b"!\xff\x0bNETSCAPE2.0\0"), None),
        "GIF with codes of 255 bits": Hostile(gif((8, 8)).replace(b"\0\x02\x02\x44", b"\0\xff\x02\x44"), CUT),
        "GIF of 200 frames": Hostile(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), None),
    }


def webps() -> dict[str, Hostile]:
    pixel = saved(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    lossy = sound("WEBP")
    extended = b"VP8X\x0a\0\0\0"
    canvas = b"\xc7\0\0\x95\0\0"  # 200 x 150
    still = lossy[12:]
    frame = b"ANMF" + struct.pack("<I", 16 + len(pixel)) + bytes(16) + pixel
    animation = b"\x02\0\0\0" + canvas + b"ANIM\x06\0\0\0" + bytes(6)
    profile = b"ICCP" + struct.pack("<I", 1_000_000) + bytes(1_000_000)
    return {
        "WebP of 16,000 x 16,000": Hostile(riff(extended + bytes(4) + b"\x7f\x3e\0\x7f\x3e\0" + still), LARGE),
        "WebP of 16,777,216 squared": Hostile(riff(extended + bytes(4) + b"\xff" * 6 + still), LARGE),
        "WebP, lossless, of 16,384 x 16,384": Hostile(riff(b"VP8L\x08\0\0\0\x2f\xff\xff\xff\x0f\0\0\0"), LARGE),
        "WebP, lossy, of 16,383 x 16,383": Hostile(lossy[:26] + b"\xff\x3f\xff\x3f" + lossy[30:], LARGE),
        "WebP without size": Hostile(lossy[:26] + bytes(4) + lossy[30:], NONE),
        "WebP whose canvas is not its picture's": Hostile(
            riff(extended + bytes(4) + b"\x63\0\0\x63\0\0" + still), NONE
        ),
        "WebP of the header alone": Hostile(riff(extended + bytes(4) + canvas), NONE),
        "WebP of an animation without a frame": Hostile(riff(extended + animation), NONE),
        "WebP with a frame of one pixel": Hostile(riff(extended + animation + frame), None),
        "WebP with 999 frames of one pixel": Hostile(riff(extended + animation + frame * 999), None),
        "WebP with 25,000 frames of one pixel": Hostile(riff(extended + animation + frame * PARTS), COMPLEX),
        "WebP with a profile of 1 MB": Hostile(riff(extended + b"\x20\0\0\0" + canvas + profile + still), None),
        "WebP with a chunk beyond the end": Hostile(
            riff(extended + bytes(4) + canvas + b"VP8 \xff\xff\xff\x7f" + still[8:]), NONE
        ),
        "WebP with transparency of garbage": Hostile(
            riff(extended + b"\x10\0\0\0" + canvas + b"ALPH\x08\0\0\0\x01garbage" + still), CUT
        ),
        "WebP of garbage": Hostile(lossy[:30] + b"\x55" * (len(lossy) - 30), CUT),
        "WebP with a header that ends before the canvas": Hostile(
            riff(b"VP8X\x08\0\0\0" + animation[:8] + b"ANIM\x06\0\0\0" + bytes(6) + frame), NONE
        ),
        "WebP, lossless, of no length": Hostile(riff(b"VP8L\0\0\0\0" + pixel[8:]), NONE),
        "WebP, lossy, that ends before its size": Hostile(riff(b"VP8 \x06\0\0\0" + still[8:]), NONE),
        "WebP of no length": Hostile(b"RIFF\0\0\0\0" + lossy[8:], NONE),
    }


def avifs() -> dict[str, Hostile]:
    whole = sound("AVIF")
    shown = whole.index(b"ispe") + 8
    kind = whole.index(b"av01", whole.index(b"infe"))
    pixels = whole.index(b"mdat") + 4
    location = whole.index(b"iloc")
    meta = whole.index(b"meta") - 4
    large = bits_of((0, 3), (1, 1), (1, 1), (0, 5), (15, 4), (15, 4), (65_535, 16), (65_535, 16)) + bytes(20)
    sequence = bytes([0b1010, len(large)]) + large

    def behind(head: bytes) -> bytes:
        """`whole` with another start."""
        old, new = (struct.pack(">I", at) for at in (pixels, pixels + len(head) - meta))
        return head + whole[meta:].replace(old, new, 1)

    def stream(data: bytes) -> bytes:
        """`whole` with another AV1 stream, padded to the same length."""
        room = len(whole) - pixels - len(data) - 3
        padding = b"\x7a" + bytes([room & 127 | 128, room >> 7]) + bytes(room)
        return whole[:pixels] + data + padding

    return {
        "AVIF of 50,000 x 50,000": Hostile(whole[:shown] + struct.pack(">II", 50_000, 50_000) + whole[shown + 8 :], LARGE),
        "AVIF of 0 x 0": Hostile(whole[:shown] + bytes(8) + whole[shown + 8 :].replace(whole[pixels:], stream(b"")[pixels:]), NONE),
        "AVIF with a stream of 65,536 x 65,536": Hostile(stream(sequence), LARGE),
        "AVIF of many frames": Hostile(stream(whole[pixels : pixels + 14] + b"\x32\x01\0" * 99), COMPLEX),
        "AVIF of many units": Hostile(resized(stream(b""), b"\x12\0" * PARTS), COMPLEX),
        "AVIF of zeros": Hostile(whole[:pixels] + bytes(len(whole) - pixels), NONE),
        "AVIF of a grid": Hostile(whole[:kind] + b"grid" + whole[kind + 4 :], COMPLEX),
        "AVIF of a picture derived from others": Hostile(whole[:kind] + b"iovl" + whole[kind + 4 :], NONE),
        "AVIF of boxes alone": Hostile(whole[:pixels], CUT),
        "AVIF of its brand alone": Hostile(whole[: whole.index(b"meta") - 4], NONE),
        "AVIF of an animation without a picture": Hostile(box(b"ftyp", b"avis\0\0\0\0avif") + box(b"moov", bytes(99)), NONE),
        "AVIF with two descriptions": Hostile(whole[: pixels - 8] + whole[whole.index(b"meta") - 4 :], NONE),
        "AVIF of boxes without length": Hostile(whole[:36] + struct.pack(">I4s", 3, b"meta") + whole[44:], NONE),
        "AVIF of many boxes": Hostile(whole + box(b"free", b"") * PARTS, COMPLEX),
        "AVIF whose brands take all the space there is": Hostile(b"\0\0\0\1ftypavif" + b"\xff" * 4 + whole[16:], NONE),
        "AVIF of 500 brands": Hostile(behind(box(b"ftyp", b"avif\0\0\0\0" + b"avif" * 500)), NONE),
        "AVIF with a film of garbage": Hostile(behind(whole[:meta] + box(b"moov", b"\xff" * 99)), None),
        "AVIF that points 4 GB away": Hostile(whole.replace(whole[location + 18 : location + 22], b"\xff" * 4, 1), CUT),
    }  # fmt: skip


def mutated(whole: bytes, seed: int) -> bytes:
    """`whole` with a few bytes changed, inserted, copied or removed."""
    chance = random.Random(seed)
    data = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        # Half of the changes are in the first bytes, which hold the structure.
        at = chance.randrange(min(len(data), 400) if chance.random() < 0.5 else len(data))
        length = chance.randint(1, 16)
        match chance.randrange(5):
            case 0:
                data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at : at + length] = chance.randbytes(length)
            case 3:
                del data[at : at + length]
            case _:
                data[at:at] = data[chance.randrange(len(data)) :][:length]
    return bytes(data)


def outcome(data: bytes) -> str | None:
    """Decode `data`. Return the reason of a refusal, or None. Raise for any other outcome."""
    try:
        pixels = decode_picture(data, SIZE)
    except PictureError as error:
        return error.reason
    if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != np.uint8:
        raise AssertionError(f"{pixels.shape} {pixels.dtype}")
    return None


def main(mutations: int) -> None:
    """Decode everything in this process. Print the outcomes, the memory growth and the longest time."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    files = hostile_pictures()
    for file_format in FORMATS:
        outcome(sound(file_format))
    small = {name: sound(name, side=48) for name in FORMATS}
    before = highest = resident_mb()
    outcomes: dict[str, str | None] = {}
    longest = 0.0
    for name, (data, _) in files.items():
        started = time.process_time()
        outcomes[name] = outcome(data)
        longest = max(longest, time.process_time() - started)
        highest = max(highest, resident_mb())
    fuzzed = {
        name: Counter(str(outcome(mutated(data, seed))) for seed in range(mutations)) for name, data in small.items()
    }
    highest = max(highest, resident_mb())
    print(json.dumps({"outcomes": outcomes, "fuzzed": fuzzed, "grown_mb": highest - before, "longest_s": longest}))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
