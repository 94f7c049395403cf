"""A made folder of somebody's photos: what phones, chats and scanners leave behind, made from the demo's catalogue.

    python -m tests.streams.taste.made FOLDER

`halves.heic` and `bonsai.heic` beside this file were written by pillow-heif, which is not needed to read them: the left half of 64 x 64
pixels is red and the right one blue, and a bonsai of the catalogue. Both have EXIF orientation 6 and were taken on 2024-05-06 at
07:08:09 +02:00.
"""

import io
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from streams.demo.catalogue import CATALOGUE, Product, read_products

HERE = Path(__file__).parent
ORIENTATION, TAKEN, ZONE, EXIF_IFD = 0x0112, 0x9003, 0x9011, 0x8769
CHANGED = datetime(2023, 1, 2, 3, 4, 5, tzinfo=UTC)  # of all files
TURNS = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""EXIF orientation to how the sensor sees an upright scene."""
STRANGE = "holiday 🌵\n<b>\x1b[31m.jpg"  # a name that would draw on a terminal and on a page
BROKEN = {"cut.jpg", "notes.jpg", "huge.png"}  # begin like pictures but for notes.jpg, and cannot be read


def products(category: str) -> list[Product]:
    return [one for one in read_products().values() if one.category == category]


def exif(orientation: int = 1, taken: str = "", zone: str = "") -> bytes:
    """An EXIF block. taken: such as `2024:05:06 07:08:09`."""
    block = Image.Exif()
    if orientation != 1:
        block[ORIENTATION] = orientation
    if taken:
        block.get_ifd(EXIF_IFD)[TAKEN] = taken
        if zone:
            block.get_ifd(EXIF_IFD)[ZONE] = zone
    return block.tobytes()


def photo(product: Product, file_format: str = "JPEG", orientation: int = 1, taken: str = "", zone: str = "") -> bytes:
    """A photo of a product as a camera saves it: turned, and with an orientation that turns it back."""
    picture = Image.open(CATALOGUE / product.file).convert("RGB")
    turn = TURNS[orientation]
    file = io.BytesIO()
    (picture if turn is None else picture.transpose(turn)).save(file, file_format, exif=exif(orientation, taken, zone))
    return file.getvalue()


def huge() -> bytes:
    """A picture of 100 megapixels in some kilobytes."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


def moving() -> bytes:
    """An animated GIF."""
    file = io.BytesIO()
    frames = [Image.open(CATALOGUE / one.file).convert("P").resize((200, 150)) for one in products("houseplant")[-2:]]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def write_photos(folder: Path) -> Path:
    """Write the folder: sneakers and plants of 2024, a few of 2023, and much that is no photo."""
    (folder / "2024" / "june").mkdir(parents=True)
    (folder / "scans").mkdir()
    (folder / ".thumbnails").mkdir()
    sneakers, plants = products("sneakers"), products("houseplant")[1:]  # the first is the bonsai, below
    files: dict[str, bytes] = {
        f"2024/IMG_{1000 + number}.JPG": photo(
            one, orientation=1 + number % 8, taken=f"2024:05:{10 + number} 12:00:00", zone="+02:00"
        )
        for number, one in enumerate(sneakers)
    }
    files |= {
        f"2024/june/IMG_{2000 + number}.jpg": photo(one, taken=f"2024:06:{10 + number} 09:30:00")
        for number, one in enumerate(plants[:3])
    }
    files |= {
        "2024/june/screenshot.png": photo(plants[3], "PNG", taken="2024:06:20 10:00:00"),
        "2024/june/chat.webp": photo(plants[4], "WEBP", taken="2024:06:21 10:00:00"),
        "2024/june/moving.gif": moving(),
        "2024/june/IMG_2000 copy.jpg": photo(plants[0], taken="2024:06:10 09:30:00"),  # the same bytes
        STRANGE: photo(sneakers[0], "PNG"),
        "cut.jpg": photo(sneakers[1])[:3000],
        "notes.jpg": b"milk, bread, a cactus\n",
        "empty.jpg": b"",
        "huge.png": huge(),
        "scans/letter.pdf": b"%PDF-1.7\n",
        "scans/letter.txt": b"Dear Ada,\n",
        "IMG_1001.MOV": b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide",
        ".DS_Store": b"\0\0\0\1Bud1",
        ".thumbnails/1.jpg": photo(sneakers[2]),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    shutil.copy(HERE / "bonsai.heic", folder / "2024" / "IMG_3000.HEIC")
    for path in folder.rglob("*"):
        os.utime(path, (CHANGED.timestamp(), CHANGED.timestamp()))
    (folder / "2024" / "again").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    return folder


if __name__ == "__main__":
    write_photos(Path(sys.argv[1]))
