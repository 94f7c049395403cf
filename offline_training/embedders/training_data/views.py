"""The input of the trainable part of a network: pixels, or cached activations of the frozen blocks.

Activations are computed once for each view of each picture and cached on disk. Fine-tuning of the last blocks then costs
these blocks only, in every epoch and in every run with the same pictures and weights. An interrupted computation resumes
where it stopped.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.exceptions import PictureError
from model.preprocessing import PREPROCESSING, decode_picture
from offline_training.embedders.backbones.backbones import Backbone
from offline_training.embedders.exceptions import EmbedderError
from offline_training.embedders.training_data.augmentation import AUGMENTATION, random_view
from offline_training.embedders.training_data.pictures import LabelledPicture
from offline_training.progress import Advance

BATCH = 16  # pictures per call
DECODERS = 2  # threads
FRESH_VIEWS = 1 << 30
"""Number of views of a picture whose views are not cached: practically never the same view twice."""


class Views(Protocol):
    """N pictures in V views each. View 0 is the picture as serving decodes it. The others are random, but fixed by the seed."""

    count: int  # N
    views: int  # V

    def rows(self, pictures: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        """Return view `views[i]` of picture `pictures[i]`: the input of `Backbone.before`, uint8, or its output, float32."""
        ...


class Pixels:
    """`Views` that are decoded on each call: uint8 [B,size,size,3]."""

    def __init__(self, pictures: Sequence[LabelledPicture], size: int, seed: int) -> None:
        self.pictures, self.size, self.seed = pictures, size, seed
        self.count, self.views = len(pictures), FRESH_VIEWS

    def rows(self, pictures: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        with ThreadPoolExecutor(DECODERS) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._one, pictures.tolist(), views.tolist()))))

    def _one(self, picture: int, view: int) -> NDArray[np.uint8]:
        path = self.pictures[picture].path
        try:
            data = path.read_bytes()
            if view == 0:
                return decode_picture(data, self.size)
            return random_view(data, self.size, np.random.default_rng((self.seed, picture, view)))
        except PictureError as error:
            raise EmbedderError(f"{path}: {error}") from error


class CachedActivations:
    """`Views` whose activations are in a file, float16 [N,V,C,h,w]. `rows` returns float32 [B,C,h,w]."""

    def __init__(self, activations: NDArray[np.float16]) -> None:
        self.activations = activations
        self.count, self.views = activations.shape[:2]

    def rows(self, pictures: NDArray[np.int64], views: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.activations[pictures, views].astype(np.float32))


def cached_activations(
    pixels: Pixels, views: int, backbone: Backbone, cut: int, *, folder: Path, advance: Advance
) -> CachedActivations:
    """Return the activations after the first `cut` blocks. Compute those that are missing in `folder`.

    There are two files: `<identity>.npy` with the activations, and `<identity>.done` with the number of computed views.

    Args:
        pixels: The pictures.
        views: Views per picture.
        backbone: The network.
        cut: Number of frozen blocks.
        folder: Folder of the cache. It may be deleted at any time.
        advance: Called with the number of views that are done.
    """
    device = backbone.mean.device
    path = folder / f"{_identity(pixels, views, backbone, cut)}.npy"
    progress = path.with_suffix(".done")
    total = pixels.count * views
    done = int(progress.read_text(encoding="utf-8")) if progress.is_file() and path.is_file() else 0
    if done:
        activations = np.load(path, mmap_mode="r+" if done < total else "r")
        advance(done)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        shape = _shape(backbone, cut)
        activations = np.lib.format.open_memmap(path, "w+", np.float16, (pixels.count, views, *shape))
    flat = activations.reshape(total, *activations.shape[2:])
    for numbers in batches(total, BATCH, start=done):
        with torch.inference_mode():
            image = pixels.rows(numbers // views, numbers % views).to(device)
            flat[numbers] = backbone.before(image, cut).half().cpu().numpy()
        advance(len(numbers))
        done += len(numbers)
        _write_progress(progress, done)
    return CachedActivations(cast("NDArray[np.float16]", activations))


def batches(count: int, size: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield start, start + 1, ... count - 1 in arrays of `size`."""
    return (np.arange(at, min(at + size, count)) for at in range(start, count, size))


def _write_progress(path: Path, done: int) -> None:
    part = path.with_suffix(".part")
    part.write_text(str(done), encoding="utf-8")
    part.replace(path)


def _shape(backbone: Backbone, cut: int) -> tuple[int, ...]:
    size = backbone.image_size
    with torch.inference_mode():
        blank = torch.zeros((1, size, size, 3), dtype=torch.uint8, device=backbone.mean.device)
        return tuple(backbone.before(blank, cut).shape[1:])


def _identity(pixels: Pixels, views: int, backbone: Backbone, cut: int) -> str:
    """Hash the names and sizes of the pictures, the frozen weights, and the number, version and seed of the views."""
    made_by = f"{backbone.identity(cut)} {PREPROCESSING} {AUGMENTATION} {views} {pixels.seed} {pixels.size}"
    digest = hashlib.sha256(made_by.encode())
    for picture in pixels.pictures:
        digest.update(f"{picture.name} {picture.path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
