"""Picture files, up to the decoder: their containers, with all limits."""

import io
from functools import cache
from pathlib import Path

from PIL import Image

from model.containers import exif_orientation, open_container, picture_format
from model.exceptions import PictureError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
HEIC = Path(__file__).parents[1] / "streams" / "taste" / "halves.heic"  # Pillow cannot write HEIC
CONTAINER_BYTES = 64  # that a rebuilt container may have more than the file


@cache
def seeds() -> list[bytes]:
    """Small pictures of each format, with transparency, EXIF, animation and interlacing."""
    made: list[bytes] = []
    picture = Image.linear_gradient("L").resize((24, 16)).convert("RGBA")
    picture.putalpha(128)
    exif = Image.Exif()
    exif[0x0112] = 6
    options: list[tuple[str, str, dict[str, object]]] = [
        *((name, "RGB", {"exif": exif}) for name in ("JPEG", "PNG", "WEBP", "AVIF")),
        *((name, "RGBA", {}) for name in ("PNG", "WEBP", "AVIF")),
        ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "I;16", {}), ("GIF", "P", {}),
        ("GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}), ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {"save_all": True, "append_images": [picture.convert("RGB").rotate(180)]}),
    ]  # fmt: skip
    for name, mode, given in options:
        file = io.BytesIO()
        picture.convert("L").convert(mode).save(file, name, **given)
        made.append(file.getvalue())
    made.append(HEIC.read_bytes())
    return [*made, b"", made[0][:30], b"\x89PNG\r\n\x1a\n", b"RIFF\x04\0\0\0WEBP", b"\0\0\0\x10ftypavif\0\0\0\0"]


def check(data: bytes) -> str:
    """Read a container. What is left of it reads the same, and does not shrink again."""
    name = picture_format(data)
    if name is None:
        return "no picture"
    try:
        contents = open_container(name, data)
    except PictureError as error:
        return f"{name} {error.reason}"
    assert len(contents.data) <= len(data) + CONTAINER_BYTES
    assert min(contents.width, contents.height) >= 0
    assert exif_orientation(contents.exif) in range(9)
    assert picture_format(contents.data) == name
    again = open_container(name, contents.data)
    assert (again.width, again.height, again.data) == (contents.width, contents.height, contents.data)
    return f"{name} accepted"
