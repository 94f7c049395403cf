"""Makes a shop's own bundle: the embedder of another one, an item network behind it, and an aggregator of the shop's categories.

Embeddings of the catalogue go in, as the base of that embedder makes them; what the new embedder gives, and the workers store, are
codes of 128 numbers. Read `make_shop_bundle` from top to bottom.
"""

from dataclasses import asdict
from pathlib import Path

from model.bundle import EMBEDDER, Bundle
from model.manifest import Embedding, Manifest, Training
from offline_training.aggregators.item_model import ItemModel
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import make_bundle
from offline_training.exporting.graphs import open_base
from offline_training.item_network.network import ITEM_RECIPES
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import evaluate
from offline_training.tasks.tasks import TASK_TEXTS, Split, TaskName

BEST: dict[TaskName, str] = {"profile": "union", "unseen": "stack", "next": "mean+max"}
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
) -> Bundle:
    """Train, write and measure a bundle; gives it as a worker would load it.

    Args:
        base: whose embedder it builds on, an item network of its own left out.
        catalogue: with embeddings as `graphs.open_base` makes them.
        aggregator: a name of `AGGREGATORS`, by default the task's best.
        out: the bundle's folder; its three files are replaced when all is done.

    Raises:
        DatasetError: when the embeddings are not of the base's size.
    """
    found, expected = catalogue.embeddings.shape[1], open_base(base).embedding_size
    if found != expected:
        raise DatasetError(
            f"embeddings of {found} numbers, but the base of {base.path} gives {expected}: "
            "give those that it makes (tastestream train embed)"
        )
    recipe, chosen = ITEM_RECIPES[task], aggregator or BEST[task]
    items = ItemModel(catalogue, split, recipe=recipe, seed=seed, step=step)
    network = items.aggregator(chosen).network
    manifest = Manifest(
        name=name,
        version=version,
        files={},
        image=base.manifest.image,
        embedding=Embedding(
            recipe.code_size, f"{base.manifest.embedding.network}, and an item network to {recipe.code_size} numbers"
        ),
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
        base=base.path / EMBEDDER,
        items=items.network,
        network=network,
        manifest=manifest,
        measure=lambda bundle: {f"test/{task}": evaluate(bundle, split, items.codes)},
    )
