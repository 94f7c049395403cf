"""Held-out users to look at: bags whose pictures are all there, and small copies of these pictures."""

import io
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.exceptions import PictureError
from model.preprocessing import decode_picture
from offline_training.bags import PADDING
from offline_training.catalogue import Catalogue
from offline_training.datasets.picture_files import PictureFiles
from offline_training.report.results import Example
from offline_training.tasks import Split

USERS = 6
SIDE, QUALITY = 96, 80  # pixels, of 100


def choose(
    catalogue: Catalogue, split: Split, *, users: int = USERS
) -> tuple[NDArray[np.int64], list[Example], dict[str, bytes]]:
    """Users drawn by chance among those with pictures only, or fewer where there are not so many.

    Returns:
        Rows of the test bags; the examples; the items' JPEGs.
    """
    bags = split.test
    has_picture = np.array([item in catalogue.pictures for item in catalogue.items])
    complete = (has_picture[bags.rows] | (bags.rows == PADDING)).all(1)
    chosen: list[int] = []
    examples: list[Example] = []
    pictures: dict[str, bytes] = {}
    with PictureFiles() as files:
        shrink = cache(partial(thumbnail, files))
        for row in np.random.default_rng(0).permutation(np.flatnonzero(complete)):
            if len(chosen) == users:
                break
            bag = [catalogue.items[item] for item in bags.rows[row] if item != PADDING]
            afterwards = [catalogue.items[item] for item in split.afterwards[row]] if split.afterwards else []
            found = {item: shrink(catalogue.pictures.get(item)) for item in (*bag, *afterwards)}
            whole = {item: picture for item, picture in found.items() if picture is not None}
            if len(whole) == len(found):
                chosen.append(int(row))
                examples.append(
                    Example(bag, afterwards, [catalogue.labels[n] for n in np.flatnonzero(bags.targets[row])])
                )
                pictures |= whole
    return np.array(chosen, np.int64), examples, pictures


def thumbnail(files: PictureFiles, path: str | None) -> bytes | None:
    """A JPEG of 96 x 96 pixels, white where the picture is not square; None when it cannot be read."""
    try:
        pixels = decode_picture(files.read(path or ""), SIDE)
    except PictureError:
        return None
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
