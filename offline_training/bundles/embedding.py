"""Features of the pictures for the default bundle, as its own backbone makes and stores them, cached on disk."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.embedder import Backbone
from model.preprocessing import decode_picture
from model.quantization import dequantize
from offline_training.embedders.training_data.augmentation import AUGMENTATION, random_view
from offline_training.embedders.training_data.pictures import LabelledPicture
from offline_training.progress import Advance

BATCH = 32  # pictures in one call of the backbone
DECODERS = 2  # threads


def embed_pictures(
    pictures: list[LabelledPicture], views: int, backbone: Backbone, *, seed: int, cache: Path, advance: Advance
) -> NDArray[np.float32]:
    """Embed each picture as it is, and `views - 1` random views of it.

    Args:
        pictures: N pictures.
        views: V, at least 1.
        backbone: the int8 backbone of the bundle.
        seed: random seed of the views.
        cache: folder of cached results; created when missing.
        advance: called with the number of embeddings finished since the last call.

    Returns:
        float32 [N, V, d], rounded as `model.quantization` stores rows.
    """
    path = cache / f"{_cache_key(pictures, views, backbone, seed)}.npy"
    if path.exists():
        rows = np.load(path)
        advance(len(pictures) * views)
    else:
        rows = np.stack(list(_embed(pictures, views, backbone, seed, advance)))
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, rows)
    embeddings = dequantize([row.tobytes() for row in rows], backbone.feature_size)
    return embeddings.reshape(len(pictures), views, -1)


def _embed(
    pictures: list[LabelledPicture], views: int, backbone: Backbone, seed: int, advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    """Yield quantized rows, uint8 [8 + d] each: all views of the first picture, then of the next."""

    def pixels(number: int) -> NDArray[np.uint8]:
        picture, view = divmod(number, views)
        data = pictures[picture].path.read_bytes()
        if view == 0:
            return decode_picture(data, backbone.image_size)
        return random_view(data, backbone.image_size, np.random.default_rng((seed, picture, view)))

    with ThreadPoolExecutor(DECODERS) as pool:
        for numbers in _batches(len(pictures) * views):
            for row in backbone.features(np.stack(list(pool.map(pixels, numbers)))):
                yield np.frombuffer(row, np.uint8)
            advance(len(numbers))


def _batches(count: int) -> Iterator[range]:
    return (range(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def _cache_key(pictures: list[LabelledPicture], views: int, backbone: Backbone, seed: int) -> str:
    """Hash what the embeddings depend on: picture names, backbone version, kind and number of views, seed."""
    digest = hashlib.sha256(f"{backbone.version} {AUGMENTATION} {views} {seed}".encode())
    for picture in pictures:
        digest.update(picture.name.encode())
    return digest.hexdigest()[:16]
