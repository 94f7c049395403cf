"""Splits and joins the two parts of an embedder: the base (pictures to features) and the item network (features to codes).

    image uint8 [B, H, W, 3] -> FEATURES float32 [B, f] -> embedding float32 [B, k]

Training starts from features, because the codes of one shop keep only what its labels need. An embedder without an item
network is a base, and its embeddings are the features. This module needs onnx, but no torch: `tastestream evaluate` uses it.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, numpy_helper
from onnx.utils import Extractor

from model.bundle import EMBEDDER, Bundle
from model.embedder import Embedder
from model.sessions import open_session

BASE = "base/"  # prefix of the names of the base in an embedder with an item network
FEATURES = f"{BASE}embedding"
CODING_BATCH = 4096  # items per call
OPSET = 18
IR_VERSION = 10
"""ONNX Runtime 1.20 reads this IR version and this opset. Newer tools write newer versions by default."""


def extend(base: Path, code: Path, path: Path) -> None:
    """Write an embedder that consists of a base and an item network.

    Args:
        base: `embedder.onnx` of a bundle. If it has an item network, only its base is used.
        code: Trunk of the item network: `features` float32 [B, f] -> `code` float32 [B, k].
        path: File to write.
    """
    first, second = base_of(base), onnx.load(str(code))
    merged = compose.merge_models(
        compose.add_prefix(first, BASE), compose.add_prefix(second, "items/"), io_map=[(FEATURES, "items/features")]
    )
    _rename(merged, {f"{BASE}image": "image", "items/code": "embedding"})
    onnx.save(merged, str(path))
    strip_and_check(path)


def base_of(path: Path) -> onnx.ModelProto:
    """Return an embedder without its item network: `image` to `embedding`."""
    model = onnx.load(str(path))
    if not _is_extended(model):
        return model
    base = Extractor(model).extract_model(["image"], [FEATURES])
    for one in (*base.graph.node, *base.graph.initializer, *base.graph.value_info):
        one.name = one.name.removeprefix(BASE)
    _rename(base, {name: name.removeprefix(BASE) for node in base.graph.node for name in (*node.input, *node.output)})
    return base


def open_base(bundle: Bundle, threads: int = 1) -> Embedder:
    """Open the base of a bundle's embedder. It computes the input of the item network, or the embeddings if there is none."""
    base = base_of(bundle.path / EMBEDDER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / EMBEDDER
        onnx.save(base, str(path))
        session = open_session(path, threads, arena=True)
    return Embedder(session, bundle.image_size, int(session.get_outputs()[0].shape[1]), _version(base))


def coder(bundle: Bundle) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the item network of a bundle: features of `open_base`, float32 [N, f], to embeddings, float32 [N, k]."""
    model = onnx.load(str(bundle.path / EMBEDDER))
    if not _is_extended(model):
        return lambda features: features
    with TemporaryDirectory() as folder:
        path = Path(folder) / EMBEDDER
        onnx.save(Extractor(model).extract_model([FEATURES], ["embedding"]), str(path))
        session = open_session(path, 1)

    def coded(features: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [features[start : start + CODING_BATCH] for start in range(0, len(features), CODING_BATCH)]
        return np.concatenate([cast("NDArray[np.float32]", session.run(None, {FEATURES: part})[0]) for part in parts])

    return coded


def _version(model: onnx.ModelProto) -> str:
    """Hash what a graph computes: operators, attributes and weights, not the metadata of the file."""
    digest = hashlib.sha256()
    for node in model.graph.node:
        digest.update(f"{node.op_type} {list(node.input)} {list(node.output)}".encode())
        digest.update("".join(sorted(str(attribute) for attribute in node.attribute)).encode())
    for weights in sorted(model.graph.initializer, key=lambda one: one.name):
        digest.update(weights.name.encode() + numpy_helper.to_array(weights).tobytes())
    return digest.hexdigest()[:12]


def _is_extended(model: onnx.ModelProto) -> bool:
    return any(FEATURES in node.output for node in model.graph.node)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def strip_and_check(path: Path) -> None:
    """Remove the metadata of tracing (paths, stack traces), set the IR version, and check the model."""
    graph = onnx.load(str(path))
    graph.ir_version = IR_VERSION
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    graph.graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
