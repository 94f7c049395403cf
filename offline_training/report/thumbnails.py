"""Thumbnails of pictures, embedded in a report page."""

import io

from PIL import Image

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from offline_training.datasets.picture_files import PictureFiles
from offline_training.datasets.picture_ref import PictureRef

SIDE = 96  # pixels
QUALITY = 80  # of a JPEG, up to 100


def thumbnail(files: PictureFiles, picture: PictureRef | None) -> bytes | None:
    """Make a JPEG of 96 x 96 pixels, padded with white. None when there is no picture, or it cannot be read."""
    if picture is None:
        return None
    try:
        pixels = decode_picture(files.read(picture), SIDE)
    except PictureError:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
