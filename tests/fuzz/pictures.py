"""Picture files, decoded. The limits are those of small pictures, so that an input takes milliseconds."""

import numpy as np

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from tests.fuzz import containers

SIDE, MAX_PIXELS = 16, 64 * 64


def seeds() -> list[bytes]:
    """The pictures of the containers."""
    return containers.seeds()


def check(data: bytes) -> str:
    """Decode a picture; twice is the same as once."""
    try:
        pixels = decode_picture(data, SIDE, MAX_PIXELS)
    except PictureError as error:
        assert "\n" not in str(error)
        return error.reason
    assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)
    assert np.array_equal(decode_picture(data, SIDE, MAX_PIXELS), pixels)
    return "accepted"
