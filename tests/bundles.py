"""Bundles for tests: one that differs from the shipped one in its item network alone, and one that uses the trend."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.bundle import AGGREGATOR, ITEMS, LABELS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import Field, Manifest, encode
from model.bundle.versions import with_versions

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
    graph = network.graph
    size = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "embedding":
                node.output[place] = "in_order"
    graph.initializer.append(numpy_helper.from_array(np.arange(size)[::-1].copy(), "opposite"))
    graph.node.append(helper.make_node("Gather", ["in_order", "opposite"], ["embedding"], axis=1))
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


def write_trending(folder: Path, version: str = "trending") -> Path:
    """Write a bundle that uses the trend and the ages of the items. Its embedder is the shipped one.

    Its categories are two fields, `first` and `second`. In each, a score is the share of the category among what all users took in
    28 days, times its share among the labels of the bag's items. An item weighs half after a day. What the labels are is arbitrary.

    Args:
        folder: is created.
        version: of the bundle.
    """
    shutil.copytree(Bundle.load().path, folder)
    manifest = _manifest((folder / MANIFEST).read_bytes())
    size, categories = manifest.embedding.size, len(manifest.categories)
    parts = [list(range(categories // 2)), list(range(categories // 2, categories))]
    weights = np.random.default_rng(0).integers(-127, 128, (categories, size)).astype(np.int8)
    scale = 0.01
    np.savez(
        folder / LABELS,
        weights=weights,
        scales=np.full(categories, scale),
        biases=np.zeros(categories),
        category=np.arange(categories, dtype=np.int32),
        group=np.repeat([0, 1], [len(part) for part in parts]).astype(np.int32),
    )
    _write_trending_aggregator(
        folder / AGGREGATOR, weights.T * scale, np.array(manifest.prior), [len(p) for p in parts]
    )
    files = {name: file_sha256(folder / name) for name in (*manifest.files, LABELS)}
    fields = [Field(name, part) for name, part in zip(("first", "second"), parts, strict=True)]
    changed = msgspec.structs.replace(manifest, version=version, files=files, fields=fields)
    (folder / MANIFEST).write_bytes(encode(with_versions(changed)))
    return folder


def _write_trending_aggregator(path: Path, weights: np.ndarray, prior: np.ndarray, parts: list[int]) -> None:
    size, categories = weights.shape
    constants = {
        "weights": weights.astype(np.float32), "prior": (prior + 0.01).astype(np.float32)[None],
        "zero": np.float32(0), "one": np.float32(1), "little": np.float32(1e-3), "window": np.array(1, np.int64),
        "last": np.array([-1], np.int64), "middle": np.array([1], np.int64), "parts": np.array(parts, np.int64),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Exp", ["log_prior"], ["strength"]),
        node("Add", ["ages", "one"], ["slowed"]),
        node("Div", ["strength", "slowed"], ["weight"]),  # [B,M]; 0 for padding
        node("ReduceSum", ["weight", "last"], ["total"]),
        node("Div", ["weight", "total"], ["attention"]),
        node("IsInf", ["log_prior"], ["padding"]),
        node("Unsqueeze", ["padding", "last"], ["blank"]),
        node("Where", ["blank", "zero", "embeddings"], ["items"]),
        node("MatMul", ["items", "weights"], ["logits"]),  # [B,M,D]
        node("Split", ["logits", "parts"], ["logits1", "logits2"], axis=-1),
        node("Softmax", ["logits1"], ["labels1"], axis=-1),
        node("Softmax", ["logits2"], ["labels2"], axis=-1),
        node("Concat", ["labels1", "labels2"], ["labels"], axis=-1),
        node("Unsqueeze", ["attention", "middle"], ["row"]),
        node("MatMul", ["row", "labels"], ["means"]),
        node("Squeeze", ["means", "middle"], ["of_bag"]),  # [B,D]
        node("Gather", ["trend", "window"], ["month"], axis=1),
        node("Add", ["month", "prior"], ["smooth"]),
        node("Add", ["of_bag", "little"], ["some"]),
        node("Mul", ["smooth", "some"], ["product"]),
        node("Split", ["product", "parts"], ["product1", "product2"], axis=-1),
        node("ReduceSum", ["product1", "last"], ["sum1"]),
        node("ReduceSum", ["product2", "last"], ["sum2"]),
        node("Div", ["product1", "sum1"], ["scores1"]),
        node("Div", ["product2", "sum2"], ["scores2"]),
        node("Concat", ["scores1", "scores2"], ["scores"], axis=-1),
    ]
    real = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "trending",
        [
            helper.make_tensor_value_info("embeddings", real, ["batch", "items", size]),
            helper.make_tensor_value_info("log_prior", real, ["batch", "items"]),
            helper.make_tensor_value_info("ages", real, ["batch", "items"]),
            helper.make_tensor_value_info("trend", real, ["batch", 3, categories]),
        ],
        [
            helper.make_tensor_value_info("scores", real, ["batch", categories]),
            helper.make_tensor_value_info("attention", real, ["batch", "items"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
