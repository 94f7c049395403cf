"""The files of a bundle that is being made."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from torch import nn

from model.bundle import AGGREGATOR, EMBEDDER, MANIFEST, Bundle, file_sha256
from model.manifest import Manifest
from offline_training.aggregators.served import Served
from offline_training.exporting import export
from offline_training.exporting.graphs import extend
from offline_training.item_network.network import ItemNetwork

Measure = Callable[[Bundle], dict[str, dict[str, float]]]


def make_bundle(
    out: Path, *, base: Path, items: ItemNetwork, network: nn.Module, manifest: Manifest, measure: Measure
) -> Bundle:
    """Write a bundle beside `out`, measure it, and copy it there when it is whole; gives it as a worker would load it.

    Args:
        out: the bundle's folder; its three files are replaced.
        base: `embedder.onnx` whose features the item network takes.
        items: between features and aggregator.
        network: of `aggregators`, trained on what `items` gives.
        manifest: without checksums and figures.
        measure: figures of the bundle's own files.
    """
    with TemporaryDirectory() as folder:
        built = Path(folder)
        export.export_trunk(items.trunk, items.features, built / "code.onnx")
        extend(base, built / "code.onnx", built / EMBEDDER)
        export.export_aggregator(Served(network).eval(), manifest.embedding.size, built / AGGREGATOR)
        files = {name: file_sha256(built / name) for name in (EMBEDDER, AGGREGATOR)}
        whole = msgspec.structs.replace(manifest, files=files)
        _write(built, whole)
        _write(built, msgspec.structs.replace(whole, metrics=measure(Bundle.load(built))))
        out.mkdir(parents=True, exist_ok=True)
        for name in (EMBEDDER, AGGREGATOR, MANIFEST):
            shutil.copyfile(built / name, out / name)
    return Bundle.load(out)


def _write(folder: Path, manifest: Manifest) -> None:
    """Indented, for people."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
