"""Exports a fine-tuned backbone to ONNX: in float, and in int8 with ranges from pictures of its own domain."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bundle import file_sha256
from model.embedder import Embedder, WholeEmbedder
from model.sessions import open_session
from offline_training.embedders.backbones.backbones import Backbone
from offline_training.embedders.backbones.mobilenet import FoldedConvolution
from offline_training.embedders.backbones.rounding import round_layers
from offline_training.embedders.training_data.views import Pixels, batches
from offline_training.exporting.export import export_float_backbone, quantize_backbone

ROUNDING_PICTURES = 64
"""Number of calibration pictures for rounding the weights of v1. Rounding holds their activations of a layer in memory."""

BATCH = 16  # pictures per call
THREADS = 1


def export(backbone: Backbone, float_path: Path, path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write the network in float (`float_path`) and in int8 (`path`).

    The weights of v1 lose too much accuracy when rounded to nearest, so `backbones/rounding.py` rounds them. The weights of the
    other networks are rounded to nearest.

    Args:
        backbone: Network on any device. It is not changed.
        float_path: File to write, float.
        path: File to write, int8.
        pictures: Pictures that set the ranges, uint8 [N,size,size,3].
    """
    exact = copy.deepcopy(backbone).cpu()
    export_float_backbone(exact, float_path, exact.image_size)
    layers = [layer for layer in exact.blocks.modules() if isinstance(layer, FoldedConvolution)]
    if not layers:
        quantize_backbone(float_path, path, pictures)
        return
    with torch.inference_mode():
        x = exact.before(torch.from_numpy(pictures[:ROUNDING_PICTURES]), 0)
    round_layers(cast("Iterable[FoldedConvolution]", layers), x.clone())
    rounded = path.with_suffix(".rounded")
    try:
        export_float_backbone(exact, rounded, exact.image_size)
        quantize_backbone(rounded, path, pictures)
    finally:
        rounded.unlink(missing_ok=True)


def open_embedder(path: Path, backbone: Backbone) -> Embedder:
    """Open a file of `export`. Its embeddings are the features, not rounded."""
    return WholeEmbedder(open_session(path, THREADS), backbone.image_size, backbone.embedding_size, file_sha256(path))


def embed_pixels(embedder: Embedder, pixels: Pixels) -> Tensor:
    """Embed view 0 of each picture, float32 [N,d]."""
    parts = [
        embedder.embed(pixels.rows(numbers, np.zeros_like(numbers)).numpy()) for numbers in batches(pixels.count, BATCH)
    ]
    return torch.from_numpy(np.concatenate(parts))
