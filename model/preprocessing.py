"""From the bytes of a picture to the pixels that the embedder takes. Serving and training call this same function.

The bytes come from the internet. What is refused for its cost is refused from the header, before anything is decoded; the
decoder gets only what decides on the pixels (`model.containers`); and the format's class is called directly:
`PIL.Image.open` would consult limits and emit warnings that belong to the whole process. Colour profiles are ignored.
Nothing here is shared between threads.
"""

import io
from collections.abc import Callable
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model.containers import exif_orientation, open_container, picture_format
from model.exceptions import PictureError
from model.limits import MAX_PIXELS

PREPROCESSING = "fit-white-1"
"""Names what `decode_picture` does to the pixels; part of the embedder's version, so change it with any change of them."""

DESCRIPTION = (
    "RGB; EXIF orientation applied; transparency on white; "
    "scaled to fit (bilinear with antialiasing), centred on a white square"
)

REDUCING_GAP = 2.0
"""Shrink by whole factors first, down to twice the target: Pillow documents the result as indistinguishable from a
full resize at 3, close at 2."""

MAX_SIDE = 65_535
"""What JPEG and GIF can say at all. A line of pixels costs memory beyond its pixels, so that a PNG of one pixel by 25
million takes 570 MB. There is no limit on the aspect: a picture one pixel high is a line on white."""

DECODERS: dict[str, Callable[[IO[bytes]], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
}

WHITE = (255, 255, 255)

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation; 1 needs nothing."""


def decode_picture(data: bytes, size: int, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, WebP, GIF or AVIF (the first frame of an animation) and fit it into a square.

    Args:
        data: the file.
        size: side of the square, pixels.
        max_pixels: width x height over which a picture is refused undecoded.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        PictureError: with one of the reasons that it names.
    """
    picture, exif = _open(data, max_pixels)
    try:
        # A JPEG is decoded at the smallest of 1/8, 1/4, 1/2 or full size that covers the square.
        picture.draft("RGB", (size, size))
        picture.load()
        fitted = _fit(_with_plain_mode(picture), size)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises whatever its parser trips over: struct, index, zlib, OS errors
        raise PictureError(
            "truncated_picture",
            f"a {picture.format} of {picture.width} x {picture.height} whose pixels end early or are damaged ({error}): "
            "send the whole file",
        ) from error
    orientation = _ORIENTATIONS.get(exif_orientation(exif or picture.info.get("exif") or b""))
    if orientation is not None:  # a fitted, centred square commutes with flips and quarter turns
        fitted = fitted.transpose(orientation)
    return np.asarray(fitted)


def _open(data: bytes, max_pixels: int) -> tuple[ImageFile, bytes]:
    """A picture within the limits, not decoded yet, and its EXIF block."""
    file_format = picture_format(data)
    if file_format is None:
        raise PictureError(
            "not_a_picture",
            f"{len(data)} bytes that start with {data[:12]!r}: only JPEG, PNG, WebP, GIF and AVIF are read",
        )
    contents = open_container(file_format, data)
    _refuse_shape(file_format, (contents.width, contents.height), max_pixels)
    if len(data) < contents.announced:  # libwebp does not tell a short file from a wrong one
        raise PictureError(
            "truncated_picture",
            f"a {file_format} of {contents.announced} bytes of which {len(data)} came: send the whole file",
        )
    try:
        picture = DECODERS[file_format](io.BytesIO(contents.data))
    except MemoryError:
        raise
    except Exception as error:  # as in `decode_picture`
        raise PictureError(
            "not_a_picture", f"{len(data)} bytes with a {file_format} header that cannot be read: {error}"
        ) from error
    _refuse_shape(file_format, picture.size, max_pixels)
    return picture, contents.exif


def _refuse_shape(file_format: str, canvas: tuple[int, int], max_pixels: int) -> None:
    width, height = canvas
    if not min(canvas):
        raise PictureError(
            "not_a_picture", f"a {file_format} of {width} x {height} pixels: send one that shows something"
        )
    if width * height > max_pixels:
        raise PictureError(
            "picture_too_large",
            f"a {file_format} of {width} x {height} pixels, over the limit of {max_pixels}: send a smaller one",
        )
    if max(canvas) > MAX_SIDE:
        raise PictureError(
            "picture_too_large",
            f"a {file_format} of {width} x {height} pixels, a side over the limit of {MAX_SIDE}: send a smaller one",
        )


def _with_plain_mode(picture: Image.Image) -> Image.Image:
    """To `RGB` or, where anything may be transparent, `RGBA`."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips or divides, depending on its version
        eight_bits = (np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(eight_bits).convert("RGB")
    transparent = picture.has_transparency_data
    return picture.convert("RGBA" if transparent else "RGB")


def _fit(picture: Image.Image, size: int) -> Image.Image:
    """Scale the longer side to `size`, keeping the aspect, and centre on white."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    square = Image.new("RGB", (size, size), WHITE)
    corner = ((size - width) // 2, (size - height) // 2)
    square.paste(scaled, corner, scaled if scaled.mode == "RGBA" else None)
    return square
