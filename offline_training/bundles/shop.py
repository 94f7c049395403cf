"""Makes a shop's own bundle: the backbone of another bundle, a new item network on top of it, and an aggregator.

The input is the features of the catalogue by that backbone. The new embedder gives codes of 128 numbers, which the workers store.
Read `make_shop_bundle` from top to bottom.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle import BACKBONE, ITEMS, Bundle
from model.bundle.manifest import Data, Embedding, Manifest, Training
from model.quantization import as_stored
from offline_training.aggregators import NEED_HEAD
from offline_training.aggregators.interface import Config
from offline_training.aggregators.item_model import ItemModel, fit_on_codes
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import Adaptation, make_bundle
from offline_training.item_network.network import ITEM_RECIPES, ItemNetwork
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import beside_popularity, codes_of
from offline_training.tasks.split import TASK_TEXTS, Split, TaskName

BEST: dict[TaskName, str] = {"profile": "union", "unseen": "stack", "next": "mean+max"}
"""The aggregator over codes that scores best on held-out users of H&M, by task (`tastestream train compare`)."""

CONVERGED = "converged"
"""Key in the recipe of a manifest: 0 if the training kept its last state, and the loss of the validation users still fell."""

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
    version: str | None,
    command: str,
    seed: int,
    out: Path,
    step: Step,
    date: str = "",
    data: Data | None = None,
    adapt: Adapt | None = None,
    keep_items: bool = False,
) -> Bundle:
    """Train, write and measure a bundle.

    Args:
        base: bundle whose backbone is built on. Its item network is left out.
        catalogue: items with their features by the backbone of `base` as embeddings.
        split: bags of `task`.
        task: task to train for.
        aggregator: A name of `AGGREGATORS`; None for the task's best.
        name: name of the bundle.
        version: version of the bundle. None: by the date and the content, `dated_version`.
        command: command line to note in the manifest.
        seed: random seed.
        out: the bundle's folder. Its files are replaced at the end.
        step: opens progress bars.
        date: the time now, RFC 3339.
        data: what is learnt from, for the manifest.
        adapt: fits an adapter, if the bundle gets one.
        keep_items: keep the item network of `base`, and train an aggregator only. The bundle then has the embedder version of `base`.

    Returns:
        The bundle, loaded as a worker loads it.

    Raises:
        DatasetError: the embeddings have another size than the features of the backbone, or the aggregator needs a new item network.
        BundleError: `base` is an early bundle, which has no backbone by itself.
    """
    check_features(base, catalogue)
    recipe, chosen = ITEM_RECIPES[task], aggregator or BEST[task]
    text = network_text(base, recipe.code_size)
    items: ItemNetwork | Path | None
    if keep_items:
        if chosen in NEED_HEAD:
            raise DatasetError(
                f"aggregator {chosen}: it needs the labels of a new item network; expected another one, or a new network"
            )
        items, text = base.path / ITEMS if ITEMS in base.manifest.files else None, base.manifest.embedding.network
        scale = Config.input_scale if items is None else 1.0
        config = Config(base.embedding_size, len(catalogue.labels), input_scale=scale)
        codes = as_stored(codes_of(base.split_embedder(), catalogue.embeddings))
        fitted = fit_on_codes(chosen, codes, split, config, seed=seed, step=step)
        tried: dict[str, float | int | str] = {"aggregator": chosen}
    else:
        model = ItemModel(catalogue, split, recipe=recipe, seed=seed, step=step)
        fitted, items, codes = model.aggregator(chosen), model.network, model.codes
        tried = {"aggregator": chosen} | {f"items_{key}": value for key, value in asdict(recipe).items()}
    curve = fitted.curve
    tried |= {"steps": curve.steps, "kept_step": curve.kept_step, CONVERGED: int(curve.converged)}
    manifest = Manifest(
        name=name,
        version=version or "",
        files={},
        image=base.manifest.image,
        embedding=Embedding(codes.shape[1], text),
        categories=catalogue.labels,
        prior=[round(float(p), 5) for p in split.train.targets.mean(0)],
        max_bag=split.train.rows.shape[1],
        sources=base.manifest.sources,
        training=Training(TASK_TEXTS[task], command, seed, tried, date),
        metrics={},
        data=data,
    )
    return make_bundle(
        out,
        backbone=base.path / BACKBONE,
        items=items,
        network=fitted.network,
        manifest=manifest,
        measure=lambda bundle: beside_popularity(f"test/{task}", bundle, split, codes),
        adapt=(lambda bundle: adapt(bundle, codes)) if adapt else None,
    )


def check_features(base: Bundle, catalogue: Catalogue) -> None:
    """Check that the embeddings of a catalogue have the size of the backbone's features. Raises DatasetError."""
    size, expected = catalogue.embeddings.shape[1], base.backbone().feature_size
    if size != expected:
        raise DatasetError(
            f"embeddings of {size} numbers, but the backbone of {base.path} makes {expected} features: "
            "embed the pictures with it (tastestream train embed)"
        )


def network_text(base: Bundle, code_size: int) -> str:
    """Name the networks. The item network of `base`, if it has one, is replaced."""
    backbone = base.manifest.embedding.network.partition(", and an item network")[0]
    return f"{backbone}, and an item network to {code_size} numbers"
