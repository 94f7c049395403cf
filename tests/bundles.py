"""Bundles for tests: one that differs from the shipped one in its item network alone."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from model.bundle import AGGREGATOR, ITEMS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import Manifest, encode
from model.bundle.versions import with_versions

LAST_LAYER = ("8.levels", "8.scale", "8.bias")  # of the shipped item network
_manifest = msgspec.json.Decoder(Manifest).decode


def write_sibling(folder: Path, version: str = "sibling") -> Path:
    """Write a bundle with the backbone of the shipped one, whose embeddings have their numbers in the opposite order.

    Its aggregator puts them back. So it scores whatever its own embedder made exactly as the shipped bundle does, and makes
    nonsense of what the other embedder made.

    Args:
        folder: is created.
        version: of the bundle.
    """
    shutil.copytree(Bundle.load().path, folder)
    _reverse_items(folder / ITEMS)
    _reverse_aggregator(folder / AGGREGATOR)
    manifest = _manifest((folder / MANIFEST).read_bytes())
    files = {name: file_sha256(folder / name) for name in manifest.files}
    renamed = msgspec.structs.replace(manifest, version=version, files=files)
    (folder / MANIFEST).write_bytes(encode(with_versions(renamed)))
    return folder


def _reverse_items(path: Path) -> None:
    network = onnx.load(path)
    reversed_ones = [one for one in network.graph.initializer if one.name in LAST_LAYER]
    assert len(reversed_ones) == len(LAST_LAYER), "the last layer of the shipped item network has other names"
    for one in reversed_ones:
        one.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(one)[::-1]), one.name))
    onnx.save(network, path)


def _reverse_aggregator(path: Path) -> None:
    network = onnx.load(path)
    graph = network.graph
    size = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "embeddings":
                node.input[place] = "in_order"
    graph.initializer.append(numpy_helper.from_array(np.arange(size)[::-1].copy(), "opposite"))
    graph.node.insert(0, helper.make_node("Gather", ["embeddings", "opposite"], ["in_order"], axis=2))
    onnx.save(network, path)
