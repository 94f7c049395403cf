"""Makes a shop's own bundle: the embedder of another one, an item network behind it, and an aggregator of the shop's categories.

Embeddings of the catalogue go in, as the base bundle's embedder makes them; what the new embedder gives, and the workers store, are
codes of 128 numbers. Read `make_shop_bundle` from top to bottom.
"""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose
from torch import nn

from model.bundle import AGGREGATOR, EMBEDDER, Bundle, file_sha256
from model.manifest import Embedding, Manifest, Training
from offline_training import export
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.interface import Config
from offline_training.aggregators.served import Served
from offline_training.bundle_evaluation import evaluate
from offline_training.bundle_files import install, write_manifest
from offline_training.catalogue import Catalogue
from offline_training.datasets.records import DatasetError
from offline_training.fitting import fit, recipe_for
from offline_training.items import ITEM_RECIPES, ItemNetwork, codes, train_on_catalogue
from offline_training.progress import Step
from offline_training.tasks import TASK_TEXTS, Split, TaskName

BEST: dict[TaskName, str] = {"profile": "union", "unseen": "union", "next": "mean+max"}
"""The aggregator over codes that is ahead on held-out users of H&M (`tastestream train compare`)."""


def make_shop_bundle(
    *,
    base: Bundle,
    catalogue: Catalogue,
    split: Split,
    task: TaskName,
    aggregator: str | None,
    name: str,
    version: str,
    command: str,
    seed: int,
    out: Path,
    step: Step,
) -> tuple[Bundle, NDArray[np.float32]]:
    """Train, write and measure a bundle; gives it as a worker would load it, and the codes of the catalogue float32 [N, k].

    Args:
        base: whose embedder made the catalogue's embeddings.
        aggregator: a name of `AGGREGATORS`, by default the task's best.
        out: the bundle's folder; its three files are replaced when all is done.

    Raises:
        DatasetError: when the embeddings are not of the base's size.
    """
    if catalogue.embeddings.shape[1] != base.embedding_size:
        raise DatasetError(
            f"embeddings of {catalogue.embeddings.shape[1]} numbers, but the embedder of {base.path} gives {base.embedding_size}: "
            "give those that it makes (tastestream train embed)"
        )
    recipe = ITEM_RECIPES[task]
    items = train_on_catalogue(catalogue, ~split.new, recipe, seed=seed, step=step)
    coded = codes(items, catalogue.embeddings)
    torch.manual_seed(seed)
    chosen = aggregator or BEST[task]
    network = AGGREGATORS[chosen](Config(recipe.code_size, len(catalogue.labels), input_scale=1.0), items.head)
    fitting = recipe_for(network)
    with step(f"aggregator {chosen}", fitting.epochs) as advance:
        fit(network, torch.from_numpy(coded), split.train, split.validation, fitting, seed=seed, advance=advance)

    with TemporaryDirectory() as folder:
        built = Path(folder)
        extend_embedder(base.path / EMBEDDER, items, base.embedding_size, built / EMBEDDER)
        export.export_aggregator(Served(network).eval(), recipe.code_size, built / AGGREGATOR)
        prior = split.train.targets.mean(0)
        manifest = Manifest(
            name=name,
            version=version,
            files={file: file_sha256(built / file) for file in (EMBEDDER, AGGREGATOR)},
            image=base.manifest.image,
            embedding=Embedding(
                recipe.code_size,
                f"{base.manifest.embedding.network}, and an item network to {recipe.code_size} numbers",
            ),
            categories=catalogue.labels,
            prior=[round(float(p), 5) for p in prior],
            max_bag=split.train.rows.shape[1],
            sources=base.manifest.sources,
            training=Training(
                TASK_TEXTS[task],
                command,
                seed,
                {"aggregator": chosen} | {f"items_{key}": value for key, value in asdict(recipe).items()},
            ),
            metrics={},
        )
        write_manifest(built, manifest)
        with step("measuring", 1) as advance:
            measured = evaluate(Bundle.load(built), split, coded)
            advance(1)
        write_manifest(built, msgspec.structs.replace(manifest, metrics={f"test/{task}": measured}))
        return install(built, out), coded


def extend_embedder(base: Path, items: ItemNetwork, embedding_size: int, path: Path) -> None:
    """Write the embedder `base` with the item network behind it."""
    with TemporaryDirectory() as folder:
        trunk = Path(folder) / "trunk.onnx"
        export.export_trunk(nn.Sequential(*items.trunk).eval(), embedding_size, trunk)
        first, second = onnx.load(str(base)), onnx.load(str(trunk))
        second.ir_version = first.ir_version
        # opset of both is what `export` writes; names of the trunk get a prefix, so that none stands twice
        second = compose.add_prefix(second, "items/")
        merged = compose.merge_models(
            compose.add_prefix(first, "base/"), second, io_map=[("base/embedding", "items/features")]
        )
        _rename(merged, {"base/image": "image", "items/code": "embedding"})
        onnx.save(merged, str(path))
        export.finish(path)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
