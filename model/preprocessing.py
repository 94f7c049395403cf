"""From the bytes of a picture to the pixels that the embedder takes. Serving and training call this same function.

The bytes come from the internet. What is refused is refused from the header, before anything is decoded, and the
format's class is called directly: `PIL.Image.open` would consult limits and emit warnings that belong to the whole
process. Nothing here is shared between threads.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from model import picture_headers
from model.exceptions import PictureError

PREPROCESSING = "fit-white-1"
"""Names what `decode_picture` does to the pixels; part of the embedder's version, so change it with any change of them."""

DESCRIPTION = (
    "RGB; EXIF orientation applied; transparency on white; "
    "scaled to fit (bilinear with antialiasing), centred on a white square"
)

MAX_PIXELS = 25_000_000
"""A 24-megapixel camera's photo passes; decoded as RGBA the largest picture takes 100 MB."""

REDUCING_GAP = 2.0
"""Shrink by whole factors first, down to twice the target: Pillow documents the result as indistinguishable from a
full resize at 3, close at 2."""

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
    """Decode a JPEG, PNG, WebP or GIF (first frame) and fit it into a square.

    Args:
        data: the file.
        size: side of the square, pixels.
        max_pixels: width x height over which a picture is refused undecoded.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        PictureError: with reason `not_a_picture` (another format, or a header that cannot be read),
            `picture_too_large` (by its header),
            or `truncated_picture` (the header is whole, the pixels end early or are damaged).
    """
    picture = _open(data, max_pixels)
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
    orientation = _ORIENTATIONS.get(picture_headers.exif_orientation(picture.info.get("exif") or b""))
    if orientation is not None:  # a fitted, centred square commutes with flips and quarter turns
        fitted = fitted.transpose(orientation)
    return np.asarray(fitted)


def _open(data: bytes, max_pixels: int) -> JpegImageFile | PngImageFile | GifImageFile | WebPImageFile:
    """Read the header only; the picture that comes back is at most `max_pixels` large and not decoded yet."""
    file_format = picture_headers.picture_format(data)
    if file_format is None:
        raise PictureError(
            "not_a_picture", f"{len(data)} bytes that start with {data[:12]!r}: only JPEG, PNG, WebP and GIF are read"
        )
    file = io.BytesIO(data)
    try:
        match file_format:
            case "JPEG":
                picture = JpegImageFile(file)
            case "PNG":
                picture = PngImageFile(file)
            case "GIF":
                _refuse_oversized("GIF", picture_headers.gif_canvas(data), max_pixels)
                picture = GifImageFile(file)
            case _:
                _refuse_oversized("WEBP", picture_headers.webp_canvas(data), max_pixels)
                _refuse_short_webp(data)
                picture = WebPImageFile(file)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # as in `decode_picture`
        raise PictureError(
            "not_a_picture", f"{len(data)} bytes with a {file_format} header that cannot be read: {error}"
        ) from error
    _refuse_oversized(picture.format or "picture", picture.size, max_pixels)
    return picture


def _refuse_oversized(file_format: str, canvas: tuple[int, int], max_pixels: int) -> None:
    width, height = canvas
    if width * height > max_pixels:
        raise PictureError(
            "picture_too_large",
            f"a {file_format} of {width} x {height} pixels, over the limit of {max_pixels}: send a smaller one",
        )


def _refuse_short_webp(data: bytes) -> None:
    """A RIFF header says how long its file is; libwebp's own error does not tell a short file from a wrong one."""
    announced = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < announced:
        raise PictureError(
            "truncated_picture", f"a WEBP of {announced} bytes of which {len(data)} came: send the whole file"
        )


def _with_plain_mode(picture: Image.Image) -> Image.Image:
    """To `RGB` or, where anything may be transparent, `RGBA`."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):  # 16 bits: Pillow's own conversion clips or divides, depending on its version
        eight_bits = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
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
