"""Makes a shop's own bundle: the backbone of another bundle, a new item network on top of it, and an aggregator.

The input is the features of the catalogue by that backbone. The new embedder gives codes of 128 numbers, which the workers store.
Read `make_shop_bundle` from top to bottom.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import BACKBONE, Bundle
from model.bundle.manifest import Embedding, Manifest, Training
from offline_training.aggregators.item_model import ItemModel
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import Adaptation, make_bundle
from offline_training.item_network.network import ITEM_RECIPES
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import evaluate
from offline_training.tasks.split import TASK_TEXTS, Split, TaskName

BEST: dict[TaskName, str] = {"profile": "union", "unseen": "stack", "next": "mean+max"}
"""The aggregator over codes that scores best on held-out users of H&M, by task (`tastestream train compare`)."""

Adapt = Callable[[Bundle, NDArray[np.float32]], Adaptation | None]
"""Fits an adapter for a bundle, given its codes of the catalogue, float32 [N, d]."""


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
    adapt: Adapt | None = None,
) -> Bundle:
    """Train, write and measure a bundle.

    Args:
        base: bundle whose backbone is built on. Its item network is left out.
        catalogue: items with their features by the backbone of `base` as embeddings.
        split: bags of `task`.
        task: task to train for.
        aggregator: A name of `AGGREGATORS`; None for the task's best.
        name: name of the bundle.
        version: version of the bundle.
        command: command line to note in the manifest.
        seed: random seed.
        out: the bundle's folder. Its files are replaced at the end.
        step: opens progress bars.
        adapt: fits an adapter, if the bundle gets one.

    Returns:
        The bundle, loaded as a worker loads it.

    Raises:
        DatasetError: the embeddings have another size than the features of the backbone.
        BundleError: `base` is an early bundle, which has no backbone by itself.
    """
    size, expected = catalogue.embeddings.shape[1], base.backbone().feature_size
    if size != expected:
        raise DatasetError(
            f"embeddings of {size} numbers, but the backbone of {base.path} makes {expected} features: "
            "embed the pictures with it (tastestream train embed)"
        )
    recipe, chosen = ITEM_RECIPES[task], aggregator or BEST[task]
    items = ItemModel(catalogue, split, recipe=recipe, seed=seed, step=step)
    network = items.aggregator(chosen).network
    manifest = Manifest(
        name=name,
        version=version,
        files={},
        image=base.manifest.image,
        embedding=Embedding(recipe.code_size, _network_text(base, recipe.code_size)),
        categories=catalogue.labels,
        prior=[round(float(p), 5) for p in split.train.targets.mean(0)],
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
    return make_bundle(
        out,
        backbone=base.path / BACKBONE,
        items=items.network,
        network=network,
        manifest=manifest,
        measure=lambda bundle: {f"test/{task}": evaluate(bundle, split, items.codes)},
        adapt=(lambda bundle: adapt(bundle, items.codes)) if adapt else None,
    )


def _network_text(base: Bundle, code_size: int) -> str:
    """Name the networks. The item network of `base`, if it has one, is replaced."""
    backbone = base.manifest.embedding.network.partition(", and an item network")[0]
    return f"{backbone}, and an item network to {code_size} numbers"
