"""Writes the files of a bundle."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from torch import nn

from model.bundle import (
    ADAPTER,
    AGGREGATOR,
    BACKBONE,
    EMBEDDER,
    ITEMS,
    LABELS,
    MANIFEST,
    RANKING,
    Bundle,
    file_sha256,
)
from model.bundle.manifest import Adapts, Manifest, encode
from model.bundle.versions import dated_version, with_versions
from model.item_search.weights import RankingWeights
from offline_training.aggregators.blend import TrendBlend
from offline_training.aggregators.served import Served
from offline_training.exporting import export
from offline_training.item_network.labels import LabelArrays
from offline_training.item_network.network import ItemNetwork

Measure = Callable[[Bundle], dict[str, dict[str, float]]]
"""Evaluates a bundle; returns the `metrics` of its manifest."""


class Adaptation(NamedTuple):
    """An adapter for a bundle."""

    network: nn.Module
    """Maps embeddings of an older bundle, float32 [B, e], to those of the bundle, float32 [B, d]."""
    adapts: Adapts
    metrics: dict[str, dict[str, float]]
    """Figures that are added to those of the manifest."""


Adapt = Callable[[Bundle], Adaptation | None]
"""Fits an adapter for a bundle without one."""

Rank = Callable[[Bundle], RankingWeights]
"""Trains the ranking of items for a bundle without one."""


def make_bundle(
    out: Path,
    *,
    backbone: Path,
    items: ItemNetwork | Path | None,
    network: nn.Module,
    manifest: Manifest,
    measure: Measure,
    adapt: Adapt | None = None,
    labels: LabelArrays | None = None,
    rank: Rank | None = None,
) -> Bundle:
    """Write a bundle to a temporary folder, evaluate it, and copy the complete bundle to `out`.

    Args:
        out: Folder of the bundle. Its files are replaced.
        backbone: A `backbone.onnx`. It is copied as it is, so that the bundle has the backbone version of where it comes from.
        items: Item network: maps the features of the backbone to the codes that the aggregator takes. An `items.onnx` is copied
            as it is, so that the bundle has the embedder version of where it comes from. None: the features are the codes.
        network: Aggregator, trained on the codes of `items`.
        manifest: Manifest without checksums and metrics. Without a version it gets `dated_version`.
        measure: Evaluates the files of the bundle.
        adapt: Fits an adapter, if the bundle gets one.
        labels: What tells the categories of an item, for a `network` that uses the trend.
        rank: Trains the ranking of items, if the bundle gets one.

    Returns:
        The bundle, loaded from `out` as a worker loads it.
    """
    with TemporaryDirectory() as folder:
        built = Path(folder)
        shutil.copyfile(backbone, built / BACKBONE)
        if isinstance(items, Path):
            shutil.copyfile(items, built / ITEMS)
        elif items is not None:
            export.export_items(items.trunk, items.features, built / ITEMS)
        if isinstance(network, TrendBlend):
            size, categories = manifest.embedding.size, len(manifest.categories)
            export.export_trend_aggregator(network, size, categories, built / AGGREGATOR)
        else:
            export.export_aggregator(Served(network).eval(), manifest.embedding.size, built / AGGREGATOR)
        networks = [BACKBONE, *([ITEMS] if items is not None else []), AGGREGATOR]
        if labels is not None:
            labels.write(built / LABELS)
            networks.append(LABELS)
        files = {name: file_sha256(built / name) for name in networks}
        with_files = with_versions(msgspec.structs.replace(manifest, files=files))
        (built / MANIFEST).write_bytes(encode(with_files))
        bundle = Bundle.load(built)
        if rank is not None:
            (built / RANKING).write_bytes(msgspec.json.encode(rank(bundle)) + b"\n")
            files[RANKING] = file_sha256(built / RANKING)
            with_files = msgspec.structs.replace(with_files, files=files)
            (built / MANIFEST).write_bytes(encode(with_files))
            bundle = Bundle.load(built)
        finished = msgspec.structs.replace(with_files, metrics=measure(bundle))
        adaptation = adapt(bundle) if adapt else None
        if adaptation is not None:
            export.export_adapter(adaptation.network, adaptation.adapts.embedding_size, built / ADAPTER)
            files[ADAPTER] = file_sha256(built / ADAPTER)
            finished = msgspec.structs.replace(
                finished, files=files, adapts=adaptation.adapts, metrics=finished.metrics | adaptation.metrics
            )
        if not manifest.version:
            finished = msgspec.structs.replace(finished, version=dated_version(finished))
        (built / MANIFEST).write_bytes(encode(finished))
        out.mkdir(parents=True, exist_ok=True)
        for name in {EMBEDDER, ITEMS, LABELS, RANKING, ADAPTER} - files.keys():
            (out / name).unlink(missing_ok=True)  # of another bundle that was here
        for name in (*files, MANIFEST):
            shutil.copyfile(built / name, out / name)
    return Bundle.load(out)
