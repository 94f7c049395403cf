"""Small files of valid pictures that cost their decoder far more than their bytes and pixels say.

The containers' checks let them through: the cost is in what a library does with its own tables.
"""

import struct
from collections.abc import Callable, Iterator

from PIL import Image

from tests.model.containers import box, riff, segment
from tests.model.hostile_pictures import saved

FIRST_ITEM = 1000  # id of the first item that is made up
LENGTH_CODES = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # order in WebP Lossless, section 6.2


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box."""
    while data:
        length, name = struct.unpack_from(">I4s", data)
        yield name, data[8:length]
        data = data[length:]


def avif_of_items(kind: str, count: int) -> bytes:
    """An AVIF whose box `kind` names `count` more items. Nothing shows them; libavif looks each up among the others.

    `iloc` locates them, `iref` calls them thumbnails of the picture, `ipma` gives them properties.
    """
    ids = range(FIRST_ITEM, FIRST_ITEM + count)
    parts = dict(_boxes(saved(Image.new("RGB", (64, 64), "red"), "AVIF", speed=10)))
    meta = dict(_boxes(parts[b"meta"][4:]))
    pixels = parts[b"mdat"]

    def built(offset: int) -> bytes:
        located = struct.pack(">IHHHII", 1, 0, 0, 1, offset, len(pixels))
        more = b"".join(struct.pack(">IHHH", one, 0, 0, 0) for one in ids) if kind == "iloc" else b""
        extra = len(ids) if more else 0
        made = dict(meta)
        made[b"iloc"] = bytes((2, 0, 0, 0, 0x44, 0)) + struct.pack(">I", 1 + extra) + located + more
        if kind == "iref":
            made[b"iref"] = bytes((1, 0, 0, 0)) + b"".join(box(b"thmb", struct.pack(">IHI", one, 1, 1)) for one in ids)
        if kind == "ipma":
            properties = dict(_boxes(meta[b"iprp"]))
            old = properties[b"ipma"]  # a count of 4 bytes, an id of 2, and the rest of the one entry
            properties[b"ipma"] = (
                bytes((1, 0, 0, old[3])) + struct.pack(">II", 1 + count, 1) + old[10:]
                + b"".join(struct.pack(">IB", one, 0) for one in ids)
            )  # fmt: skip
            made[b"iprp"] = b"".join(box(name, content) for name, content in properties.items())
        head = box(b"ftyp", parts[b"ftyp"]) + box(b"meta", bytes(4) + b"".join(box(*one) for one in made.items()))
        return head + box(b"mdat", pixels)

    return built(len(built(0)) - len(pixels))


class _Bits:
    """A stream of bits, the least significant first."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, *fields: tuple[int, int]) -> None:
        """Append numbers, each with its width in bits."""
        self._bits += [f"{value:0{width}b}"[::-1] for value, width in fields]

    def bytes(self) -> bytes:
        text = "".join(self._bits)
        return int(text[::-1], 2).to_bytes(-(-len(text) // 8), "little")


def _vp8l(side: int, groups: int) -> bytes:
    """A lossless WebP stream whose entropy image names `groups` groups of prefix codes, each of one symbol."""
    one_symbol = ((1, 1), (0, 1), (0, 1), (0, 1))
    bits = _Bits()
    bits.put((side - 1, 14), (side - 1, 14), (1, 1), (0, 3))  # alpha, version
    bits.put((0, 1), (0, 1), (1, 1))  # no transform, no colour cache, an entropy image
    shift = next(shift for shift in range(2, 10) if (-(-side >> shift)) ** 2 <= 300_000 or shift == 9)
    bits.put((shift - 2, 3), (0, 1))
    for _ in range(2):  # green and red: 256 symbols, each with a code of eight bits
        used = LENGTH_CODES.index(8) + 1
        bits.put((0, 1), (used - 4, 4), *((int(code == 8), 3) for code in LENGTH_CODES[:used]))
        bits.put((1, 1), (3, 3), (254, 8))
    for _ in range(3):  # blue, alpha and distance
        bits.put(*one_symbol)
    swapped = [int(f"{value:08b}"[::-1], 2) for value in range(256)]
    for number in range((-(-side // (1 << shift))) ** 2):
        group = min(number, groups - 1)
        bits.put((swapped[group & 255], 8), (swapped[group >> 8], 8))
    for _ in range(groups * 5):
        bits.put(*one_symbol)
    return b"\x2f" + bits.bytes() + bytes(16)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def webp_of_groups(side: int = 5000, groups: int = 65_536) -> bytes:
    """A lossless WebP: libwebp makes tables of several kB for each group of codes."""
    return riff(_chunk(b"VP8L", _vp8l(side, groups)))


def webp_of_alpha_groups(side: int = 5000, groups: int = 65_536) -> bytes:
    """A lossy WebP with a lossless alpha channel of that kind."""
    lossy = saved(Image.new("RGB", (side, side), "red"), "WEBP", quality=1)
    size = struct.pack("<I", side - 1)[:3]
    alpha = b"\x01" + _vp8l(side, groups)[5:]  # the stream without its signature and size
    return riff(_chunk(b"VP8X", b"\x10\0\0\0" + size * 2) + _chunk(b"ALPH", alpha) + lossy[12:])


def jpeg_of_arithmetic_scans(scans: int = 50, side: int = 5000, entropy: bytes = b"") -> bytes:
    """A progressive JPEG with arithmetic coding. Each scan ends at once, and the decoder makes up its coefficients."""
    frame = struct.pack(">BHHB", 8, side, side, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    file = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xCA, frame)
    file += segment(0xDA, b"\3\1\0\2\0\3\0\0\0\0") + entropy
    for number in range(1, scans):
        file += segment(0xDA, bytes((1, 1 + number % 3, 0, 1, 63, 0))) + entropy
    return file + b"\xff\xd9"


UNBOUNDED: dict[str, Callable[[], bytes]] = {
    "AVIF of 150,000 locations": lambda: avif_of_items("iloc", 150_000),
    "AVIF of 150,000 thumbnails": lambda: avif_of_items("iref", 150_000),
    "AVIF of 150,000 associations": lambda: avif_of_items("ipma", 150_000),
    "WebP of 65,536 groups of codes": webp_of_groups,
    "WebP of 65,536 groups of codes for alpha": webp_of_alpha_groups,
}
