"""Writes a bundle as early versions of tastestream did: one `embedder.onnx` for backbone and item network."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import onnx
from onnx import compose

from model.bundle import AGGREGATOR, BACKBONE, EMBEDDER, ITEMS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum


def write_early(bundle: Bundle, folder: Path, *, items: bool = True) -> Path:
    """Write `bundle` to `folder` in the early form. items: whether with its item network."""
    folder.mkdir(parents=True)
    backbone = onnx.load(str(bundle.path / BACKBONE))
    _rename(backbone, {"features": "embedding"})
    model = backbone
    if items:
        network = onnx.load(str(bundle.path / ITEMS))
        _rename(network, {"embedding": "code"})
        model = compose.merge_models(
            compose.add_prefix(backbone, "base/"),
            compose.add_prefix(network, "items/"),
            io_map=[("base/embedding", "items/features")],
        )
        _rename(model, {"base/image": "image", "items/code": "embedding"})
    onnx.save(model, str(folder / EMBEDDER))
    shutil.copy(bundle.path / AGGREGATOR, folder / AGGREGATOR)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    del manifest["backbone_version"], manifest["embedder_version"]
    manifest["files"] = {name: file_sha256(folder / name) for name in (EMBEDDER, AGGREGATOR)}
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))
    return folder


def _rename(model: Any, names: dict[str, str]) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    for node in cast("list[Any]", model.graph.node):
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
