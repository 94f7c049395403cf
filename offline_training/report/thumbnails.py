"""Small copies of pictures, for a page that holds them."""

import io

from PIL import Image

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from offline_training.datasets.picture_files import PictureFiles

SIDE, QUALITY = 96, 80  # pixels, of 100


def thumbnail(files: PictureFiles, path: str | None) -> bytes | None:
    """A JPEG of 96 x 96 pixels, white where the picture is not square; None when it cannot be read."""
    try:
        pixels = decode_picture(files.read(path or ""), SIDE)
    except PictureError:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
