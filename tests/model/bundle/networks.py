"""Small networks for bundles, and a small bundle whose features are not finite for a black picture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from model.bundle import AGGREGATOR, BACKBONE, ITEMS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum


def aggregator_of(size: int) -> bytes:
    """A network with the inputs and outputs of an aggregator: the score is the mean of all."""
    nodes = [
        helper.make_node("ReduceMean", ["embeddings", "last"], ["means"], keepdims=0),
        helper.make_node("ReduceMean", ["means", "items"], ["scores"], keepdims=1),
        helper.make_node("Softmax", ["log_prior"], ["attention"]),
    ]
    bags = ["batch", "items"]
    return network(
        nodes,
        {"embeddings": [*bags, size], "log_prior": bags},
        {"scores": ["batch", 1], "attention": bags},
        last=np.array([2]),
        items=np.array([1]),
    )


def network(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    kind: int = TensorProto.FLOAT,
    **constants: np.ndarray,
) -> bytes:
    """An ONNX file. inputs, outputs: shapes by name. kind: data type of the inputs."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def write_colours(folder: Path) -> Bundle:
    """Write a bundle whose features are the logarithms of the three colours, summed over the picture.

    So a black picture has no finite features. The item network puts 0 for what is no number: it hides that.
    """
    shutil.copytree(Bundle.load().path, folder)
    picture, vector = ["batch", 224, 224, 3], ["batch", 3]
    (folder / BACKBONE).write_bytes(
        network(
            [
                helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
                helper.make_node("ReduceSum", ["pixels", "sides"], ["sums"], keepdims=0),
                helper.make_node("Log", ["sums"], ["features"]),
            ],
            {"image": picture}, {"features": vector}, TensorProto.UINT8, sides=np.array([1, 2]),
        )
    )  # fmt: skip
    (folder / ITEMS).write_bytes(
        network(
            [
                helper.make_node("IsNaN", ["features"], ["unknown"]),
                helper.make_node("Where", ["unknown", "zero", "features"], ["embedding"]),
            ],
            {"features": vector}, {"embedding": vector}, zero=np.zeros(1, np.float32),
        )
    )  # fmt: skip
    (folder / AGGREGATOR).write_bytes(aggregator_of(3))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {
        "name": "colours",
        "categories": ["colour"],
        "prior": [0.5],
        "fields": [],
        "backbone_version": "",
        "embedder_version": "",
    }
    manifest["embedding"]["size"] = 3
    manifest["files"] = {name: file_sha256(folder / name) for name in (BACKBONE, ITEMS, AGGREGATOR)}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))
    return Bundle.load(folder)
