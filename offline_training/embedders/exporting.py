"""A fine-tuned backbone to the ONNX files of a bundle: float, and int8 with ranges from pictures of its own domain."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bundle import file_sha256
from model.embedder import Embedder
from model.sessions import open_session
from offline_training.embedders.backbones import Backbone
from offline_training.embedders.mobilenet import FoldedConvolution
from offline_training.embedders.rounding import round_layers
from offline_training.embedders.views import Pixels, batches
from offline_training.exporting.export import export_float_embedder, quantize_embedder

ROUNDING_PICTURES = 64
"""Of the calibration's, for the rounding of v1's weights: it holds all their activations of a layer in memory."""

BATCH = 16
THREADS = 1


def export(backbone: Backbone, float_path: Path, path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write the network exactly (`float_path`) and in int8 (`path`).

    The weights of v1 are rounded by `offline_training.embedders.rounding` first, which round-to-nearest costs too much; the others'
    are rounded to nearest.

    Args:
        backbone: on any device; it is not changed.
        pictures: uint8 [N,size,size,3], for the ranges.
    """
    exact = copy.deepcopy(backbone).cpu()
    export_float_embedder(exact, float_path, exact.image_size)
    layers = [layer for layer in exact.blocks.modules() if isinstance(layer, FoldedConvolution)]
    if not layers:
        quantize_embedder(float_path, path, pictures)
        return
    with torch.inference_mode():
        x = exact.before(torch.from_numpy(pictures[:ROUNDING_PICTURES]), 0)
    round_layers(cast("Iterable[FoldedConvolution]", layers), x.clone())
    rounded = path.with_suffix(".rounded")
    try:
        export_float_embedder(exact, rounded, exact.image_size)
        quantize_embedder(rounded, path, pictures)
    finally:
        rounded.unlink(missing_ok=True)


def open_embedder(path: Path, backbone: Backbone) -> Embedder:
    """The file as a worker would run it."""
    return Embedder(open_session(path, THREADS), backbone.image_size, backbone.embedding_size, file_sha256(path))


def embed_pixels(embedder: Embedder, pixels: Pixels) -> Tensor:
    """View 0 of each picture through the file, float32 [N,d]."""
    parts = [
        embedder.embed(pixels.rows(numbers, np.zeros_like(numbers)).numpy()) for numbers in batches(pixels.count, BATCH)
    ]
    return torch.from_numpy(np.concatenate(parts))
