"""Puts an adapter into a bundle: embeddings of five numbers to those of the bundle, by a matrix."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from model.bundle import ADAPTER, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum
from tests.model.bundle.networks import network

OLD, OLD_SIZE = "0123456789ab", 5
"""The older embedder, and the numbers in its embeddings."""


def adapter_of(matrix: NDArray[np.float32]) -> bytes:
    """A network that multiplies embeddings by a matrix [e, d]."""
    node = helper.make_node("MatMul", ["embedding", "matrix"], ["adapted"])
    old, new = matrix.shape
    return network([node], {"embedding": ["batch", old]}, {"adapted": ["batch", new]}, matrix=matrix)


def put_adapter(folder: Path, content: bytes | None = None, **adapts: Any) -> Bundle:
    """Write an adapter and its fields of the manifest. content: the file; None for a matrix of ones."""
    size = Bundle.load(folder).embedding_size
    (folder / ADAPTER).write_bytes(content or adapter_of(np.ones((OLD_SIZE, size), np.float32)))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][ADAPTER] = file_sha256(folder / ADAPTER)
    manifest["adapts"] = {
        "embedder_version": OLD, "embedding_size": OLD_SIZE, "method": "by hand", "pictures": 0, **adapts
    }  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))
    return Bundle.load(folder)
