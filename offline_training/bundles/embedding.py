"""Pictures to embeddings through the very embedder and the very rounding that serve, cached on disk by what they depend on."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.embedder import Embedder
from model.preprocessing import decode_picture
from model.quantization import dequantize, quantize
from offline_training.embedders.augmentation import AUGMENTATION, random_view
from offline_training.embedders.pictures import Picture
from offline_training.progress import Advance

BATCH = 32
DECODERS = 2


def embed_pictures(
    pictures: list[Picture], views: int, embedder: Embedder, *, seed: int, cache: Path, advance: Advance
) -> NDArray[np.float32]:
    """Embed each picture as it is, and `views - 1` random views of it.

    Args:
        pictures: N pictures.
        views: V, at least 1.
        embedder: the int8 embedder of the bundle.
        seed: of the random views.
        cache: folder for the result, made when missing.
        advance: told the number of embeddings that were finished.

    Returns:
        float32 [N, V, d], after rounding by `model.quantization`.
    """
    path = cache / f"{_identity(pictures, views, embedder, seed)}.npy"
    if path.exists():
        rows = np.load(path)
        advance(len(pictures) * views)
    else:
        rows = np.stack(list(_embed(pictures, views, embedder, seed, advance)))
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, rows)
    embeddings = dequantize([row.tobytes() for row in rows], embedder.embedding_size)
    return embeddings.reshape(len(pictures), views, -1)


def _embed(
    pictures: list[Picture], views: int, embedder: Embedder, seed: int, advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    """Quantized rows, uint8 [8 + d] each, view by view within picture by picture."""

    def pixels(number: int) -> NDArray[np.uint8]:
        picture, view = divmod(number, views)
        data = pictures[picture].path.read_bytes()
        if view == 0:
            return decode_picture(data, embedder.image_size)
        return random_view(data, embedder.image_size, np.random.default_rng((seed, picture, view)))

    with ThreadPoolExecutor(DECODERS) as pool:
        for numbers in _batches(len(pictures) * views):
            embeddings = embedder.embed(np.stack(list(pool.map(pixels, numbers))))
            for embedding in embeddings:
                yield np.frombuffer(quantize(embedding), np.uint8)
            advance(len(numbers))


def _batches(count: int) -> Iterator[range]:
    return (range(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def _identity(pictures: list[Picture], views: int, embedder: Embedder, seed: int) -> str:
    """Changes with the pictures' names, the embedder, the number and kind of views, and the seed of the latter."""
    digest = hashlib.sha256(f"{embedder.version} {AUGMENTATION} {views} {seed}".encode())
    for picture in pictures:
        digest.update(picture.name.encode())
    return digest.hexdigest()[:16]
