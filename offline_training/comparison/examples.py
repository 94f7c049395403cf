"""Chooses held-out users to show in the report: users whose pictures can all be read, with thumbnails of them."""

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from offline_training.comparison.results import Example
from offline_training.datasets.picture_files import PictureFiles
from offline_training.report.thumbnails import thumbnail
from offline_training.tasks.bags import PADDING
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.split import Split

USERS = 6


def choose(
    catalogue: Catalogue, split: Split, *, users: int = USERS
) -> tuple[NDArray[np.int64], list[Example], dict[str, bytes]]:
    """Draw up to `users` test users whose items all have a readable local picture.

    Args:
        catalogue: the items.
        split: the bags.
        users: maximum number of users.

    Returns:
        Rows of the test bags, int64 [n]; the examples; the JPEGs by item.
    """
    bags = split.test
    has_picture = np.array([item in catalogue.pictures for item in catalogue.items])
    complete = (has_picture[bags.rows] | (bags.rows == PADDING)).all(1)
    chosen: list[int] = []
    examples: list[Example] = []
    pictures: dict[str, bytes] = {}
    with PictureFiles(catalogue.folders) as files:
        shrink = cache(partial(thumbnail, files))
        for row in np.random.default_rng(0).permutation(np.flatnonzero(complete)):
            if len(chosen) == users:
                break
            bag = [catalogue.items[item] for item in bags.rows[row] if item != PADDING]
            afterwards = [catalogue.items[item] for item in split.afterwards[row]] if split.afterwards else []
            thumbnails = {item: shrink(catalogue.pictures.get(item)) for item in (*bag, *afterwards)}
            readable = {item: picture for item, picture in thumbnails.items() if picture is not None}
            if len(readable) == len(thumbnails):
                chosen.append(int(row))
                examples.append(
                    Example(bag, afterwards, [catalogue.labels[n] for n in np.flatnonzero(bags.targets[row])])
                )
                pictures |= readable
    return np.array(chosen, np.int64), examples, pictures
