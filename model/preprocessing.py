"""Decodes a picture file to the pixels that the embedder takes. Serving and training call the same function.

The bytes are untrusted. Pictures that cost too much are refused from the header, before decoding. The decoder gets only
the parts of the file that determine the pixels (`model.containers`). The Pillow class of the format is called directly,
because `PIL.Image.open` uses limits and warnings that are global to the process. Colour profiles are ignored.
Nothing here is shared between threads. The processes that decode for a worker do without numpy, which takes most of their start.
"""

import io
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING

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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREPROCESSING = "fit-white-1"
"""Name of what `decode_picture` does. It is part of the embedder version: change it whenever the pixels change."""

DESCRIPTION = (
    "RGB; EXIF orientation applied; transparency on white; "
    "scaled to fit (bilinear with antialiasing), centred on a white square"
)

REDUCING_GAP = 2.0
"""Shrink by a whole factor first, to no less than twice the target. Pillow documents the result as indistinguishable from
a full resize at 3, and close to it at 2."""

MAX_SIDE = 65_535
"""Maximum width and height, pixels: the maximum of JPEG and GIF. Each row costs memory beyond its pixels: a PNG of 1 x 25
million pixels takes 570 MB. The aspect ratio has no limit: a picture one pixel high becomes a line on white."""

Decoder = Callable[[IO[bytes]], ImageFile]

DECODERS: Mapping[str, Decoder] = {
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
"""EXIF orientation to the transposition that undoes it. Orientation 1 needs none."""


def decode_picture(
    data: bytes, size: int, max_pixels: int = MAX_PIXELS, decoders: Mapping[str, Decoder] = DECODERS
) -> "NDArray[np.uint8]":
    """Decode a JPEG, PNG, WebP, GIF or AVIF file and fit it into a square. Of an animation, decode the first frame.

    Args:
        data: Content of the file.
        size: Side of the square, pixels.
        max_pixels: Maximum width x height. A larger picture is refused before decoding.
        decoders: By format. Those of `model.heic` read HEIC as well.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        PictureError: With one of the reasons that the class lists.
    """
    import numpy as np  # noqa: PLC0415 -- see above

    return np.asarray(fitted_picture(data, size, max_pixels, decoders))


def fitted_picture(data: bytes, size: int, max_pixels: int, decoders: Mapping[str, Decoder]) -> Image.Image:
    """As `decode_picture`, but an image of Pillow.

    Raises:
        PictureError: With one of the reasons that the class lists.
    """
    picture, exif = _open(data, max_pixels, decoders)
    try:
        # Decodes a JPEG at the smallest of 1/8, 1/4, 1/2 or full size that covers the square.
        picture.draft("RGB", (size, size))
        picture.load()
        fitted = _fit(_with_plain_mode(picture), size)
    except MemoryError:
        raise
    except Exception as error:  # Pillow parsers raise many types: struct, index, zlib, OS errors
        raise PictureError(
            "truncated_picture",
            f"a {picture.format} of {picture.width} x {picture.height} whose pixel data ends early or is damaged ({error}): "
            "send the complete file",
        ) from error
    orientation = _ORIENTATIONS.get(exif_orientation(exif or picture.info.get("exif") or b""))
    if orientation is not None:  # after fitting, on a small square: flips and quarter turns give the same result there
        fitted = fitted.transpose(orientation)
    return fitted


def _open(data: bytes, max_pixels: int, decoders: Mapping[str, Decoder]) -> tuple[ImageFile, bytes]:
    """Open a picture within the limits, without decoding it. Return it with its EXIF block."""
    file_format = picture_format(data)
    if file_format is None:
        raise PictureError(
            "not_a_picture",
            f"{len(data)} bytes that start with {data[:12]!r}: send a JPEG, PNG, WebP, GIF or AVIF",
        )
    if file_format not in decoders:
        raise PictureError(
            "not_a_picture", f"a {file_format} file of {len(data)} bytes: send a JPEG, PNG, WebP, GIF or AVIF"
        )
    contents = open_container(file_format, data)
    _refuse_shape(file_format, (contents.width, contents.height), max_pixels)
    if len(data) < contents.announced:  # libwebp reports a short file and an invalid file alike
        raise PictureError(
            "truncated_picture",
            f"a {file_format} of {contents.announced} bytes, of which {len(data)} arrived: send the complete file",
        )
    try:
        picture = decoders[file_format](io.BytesIO(contents.data))
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
            "not_a_picture", f"a {file_format} of {width} x {height} pixels: send a picture that is not empty"
        )
    if width * height > max_pixels:
        raise PictureError(
            "picture_too_large",
            f"a {file_format} of {width} x {height} pixels, over the limit of {max_pixels}: send a smaller picture",
        )
    if max(canvas) > MAX_SIDE:
        raise PictureError(
            "picture_too_large",
            f"a {file_format} of {width} x {height} pixels, with a side over the limit of {MAX_SIDE}: send a smaller picture",
        )


def _with_plain_mode(picture: Image.Image) -> Image.Image:
    """Convert to `RGB`, or to `RGBA` if any pixel may be transparent."""
    if picture.mode in ("RGB", "RGBA") and "transparency" not in picture.info:
        return picture
    if picture.mode == "I;16":
        # Pillow clips or divides, depending on its version. The upper byte is the second: it has them as little-endian.
        return Image.frombytes("L", picture.size, picture.tobytes()[1::2]).convert("RGB")
    transparent = picture.has_transparency_data
    return picture.convert("RGBA" if transparent else "RGB")


def _fit(picture: Image.Image, size: int) -> Image.Image:
    """Scale the longer side to `size`, keep the aspect ratio, and centre the picture on white."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    square = Image.new("RGB", (size, size), WHITE)
    corner = ((size - width) // 2, (size - height) // 2)
    square.paste(scaled, corner, scaled if scaled.mode == "RGBA" else None)
    return square
