"""Splits the embedder of an early bundle into a backbone and an item network, and checks networks that are written.

    embedder.onnx    image uint8 [B, H, W, 3] -> embedding float32 [B, k], with or without an item network
    backbone.onnx    image -> features float32 [B, f]
    items.onnx       features -> embedding

This module needs onnx, but no torch.
"""

from pathlib import Path

import msgspec
import onnx
from onnx import helper
from onnx.utils import Extractor

from model.bundle import AGGREGATOR, BACKBONE, EMBEDDER, ITEMS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import encode
from model.bundle.versions import with_versions
from model.exceptions import BundleError

BASE = "base/"  # prefix of the names of the backbone in an embedder with an item network
FEATURES = f"{BASE}embedding"
OPSET = 18
IR_VERSION = 10
"""ONNX Runtime 1.20 reads this IR version and this opset. Newer tools write newer versions by default."""


def split_bundle(bundle: Bundle, out: Path, *, version: str, metrics: dict[str, dict[str, float]]) -> Bundle:
    """Write an early bundle in the present form, without training.

    The embeddings change a little, because the item network then takes features as they are stored. So the bundle has another
    embedder version, and needs a version of its own. Early bundles with the same backbone get the same backbone version.

    Args:
        bundle: An early bundle.
        out: Folder of the new bundle.
        version: Its version.
        metrics: Its figures. Those of `bundle` hold only if they were measured with features as they are stored.

    Returns:
        The new bundle, loaded as a worker loads it.

    Raises:
        BundleError: `bundle` has the present form, or is in `out`.
    """
    if EMBEDDER not in bundle.manifest.files:
        raise BundleError(f"{bundle.path}: expected a bundle with {EMBEDDER}, found {BACKBONE}: it is split already")
    if out.exists() and out.samefile(bundle.path):
        raise BundleError(
            f"{out}: expected another folder than that of the bundle: bags need the old one until the switch"
        )
    out.mkdir(parents=True, exist_ok=True)
    backbone, items = split(onnx.load(str(bundle.path / EMBEDDER)))
    onnx.save(backbone, str(out / BACKBONE))
    strip_and_check(out / BACKBONE)
    names = [BACKBONE, AGGREGATOR]
    if items is not None:
        onnx.save(items, str(out / ITEMS))
        strip_and_check(out / ITEMS)
        names.insert(1, ITEMS)
    (out / AGGREGATOR).write_bytes((bundle.path / AGGREGATOR).read_bytes())
    manifest = msgspec.structs.replace(
        bundle.manifest,
        version=version,
        metrics=metrics,
        adapts=None,
        files={name: file_sha256(out / name) for name in names},
    )
    (out / MANIFEST).write_bytes(encode(with_versions(manifest)))
    return Bundle.load(out)


def split(embedder: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto | None]:
    """Return the backbone and the item network of an embedder; None for one without an item network.

    The backbone depends on nothing else in the file. So its hash is the same, whatever item network it was joined with.
    """
    if not any(FEATURES in node.output for node in embedder.graph.node):
        return _part(embedder, "", "backbone", {"embedding": "features"}), None
    extractor = Extractor(embedder)
    backbone, items = extractor.extract_model(["image"], [FEATURES]), extractor.extract_model([FEATURES], ["embedding"])
    return (
        _part(backbone, BASE, "backbone", {FEATURES: "features"}),
        _part(items, "items/", "items", {FEATURES: "features"}),
    )


def _part(model: onnx.ModelProto, prefix: str, name: str, names: dict[str, str]) -> onnx.ModelProto:
    """Take the prefix of joining off all names, and rename what `names` has. Drop what the part does not need."""
    graph = model.graph
    model.producer_name, graph.name = "", name
    del graph.value_info[:]  # shapes in between, which follow from the operators
    versions = {one.domain: one.version for one in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(
        helper.make_opsetid(domain, versions[domain]) for domain in sorted({node.domain for node in graph.node})
    )
    for one in (*graph.node, *graph.initializer):
        one.name = one.name.removeprefix(prefix)
    used = {value for node in graph.node for value in (*node.input, *node.output)}
    _rename(model, {value: value.removeprefix(prefix) for value in used} | names)
    return model


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
    graph.graph.ClearField("doc_string")
    for node in graph.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in [*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer]:
        value.ClearField("doc_string")
        del value.metadata_props[:]
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
