"""Makes a bundle that uses the trend, for a shop with purchases, and measures it against the trend of 28 days.

The input is the features of the catalogue, and what all users took. Read `make_purchases_bundle` from top to bottom.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import BACKBONE, ITEMS, LABELS, Bundle
from model.bundle.manifest import Data, Embedding, Manifest, Training
from model.item_labels import ItemLabels
from model.quantization import as_stored, quantize_all
from offline_training.aggregators.blend import TrendBlend
from offline_training.aggregators.blend_fitting import BlendRecipe, Known, fit_blend, prior_of
from offline_training.bundles.item_ranking import train_ranking
from offline_training.bundles.item_summary import items_group
from offline_training.bundles.shop import Adapt, check_features, network_text
from offline_training.bundles.summary import group_of
from offline_training.datasets.records import DatasetError
from offline_training.exporting.bundle_files import make_bundle
from offline_training.item_network.labels import ItemLabelShares, LabelArrays, label_arrays
from offline_training.item_network.network import (
    ITEM_RECIPES,
    ItemNetwork,
    ItemRecipe,
    LabelGroup,
    codes,
    label_groups,
    train_items,
)
from offline_training.progress import Step
from offline_training.tasks import situations
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import codes_of
from offline_training.tasks.fields import fields_of
from offline_training.tasks.item_figures import measure_items
from offline_training.tasks.purchase_figures import measured_at
from offline_training.tasks.purchases import Contexts, Daily, PurchaseSplit, Taken, make_contexts, trend_of
from offline_training.tasks.split import TASK_TEXTS

AGGREGATOR = "trend blend"
SESSION_NOISE = 1
"""Items of no interest that a simulated session shows for each item that is bought later."""


def make_purchases_bundle(
    *,
    base: Bundle,
    catalogue: Catalogue,
    taken: Taken,
    name: str,
    version: str | None,
    command: str,
    seed: int,
    out: Path,
    step: Step,
    date: str = "",
    data: Data | None = None,
    recipe: BlendRecipe | None = None,
    keep_items: bool = False,
    new: NDArray[np.bool_] | None = None,
    ranking: bool = False,
    adapt: Adapt | None = None,
) -> Bundle:
    """Train, write and measure a bundle that uses the trend.

    Args:
        base: bundle whose backbone is built on. Its item network is left out.
        catalogue: items with their features by the backbone of `base` as embeddings.
        taken: what all users took. Users that are set apart count in the trend, and are not learned from.
        name: name of the bundle.
        version: version of the bundle. None: by the date and the content, `dated_version`.
        command: command line to note in the manifest.
        seed: random seed.
        out: the bundle's folder. Its files are replaced at the end.
        step: opens progress bars.
        date: the time now, RFC 3339.
        data: what is learnt from, for the manifest.
        recipe: hyperparameters of the blend; None for the default ones.
        keep_items: keep the item network of `base` and what tells the labels of its embeddings, and fit the blend only. The bundle
            then has the embedder version of `base`.
        new: bool [N], items that the item network must not learn from. None: it learns from all.
        ranking: train the ranking of items, too.
        adapt: fits an adapter, if the bundle gets one.

    Raises:
        DatasetError: the embeddings have another size than the features of the backbone, too few users bought on two days, or
            `keep_items` and `base` does not use the trend or has other categories.
    """
    check_features(base, catalogue)
    blending, items_recipe = recipe or BlendRecipe(), ITEM_RECIPES["purchases"]
    split = make_contexts(taken)
    if not (split.train.sizes > 0).any():
        raise DatasetError(
            f"task purchases: none of {len(taken.users)} users to train on bought on two days: use --task next or unseen"
        )
    fields = fields_of(catalogue.labels, catalogue.matrix)
    if not fields:
        raise DatasetError(
            "task purchases: the labels have no field, such as colour > red and colour > blue, of which an item has one: "
            "use --task next or unseen"
        )
    features = as_stored(catalogue.embeddings)
    tried: dict[str, float | int | str] = {"aggregator": AGGREGATOR, **asdict(blending)}
    items: ItemNetwork | Path | None
    if keep_items:
        arrays = _kept_labels(base, catalogue)
        items = base.path / ITEMS if ITEMS in base.manifest.files else None
        stored, text = as_stored(codes_of(base.split_embedder(), catalogue.embeddings)), base.manifest.embedding.network
    else:
        learnt, groups = slice(None) if new is None else ~new, label_groups(catalogue.labels, catalogue.matrix)
        items = _items(features[learnt], catalogue.matrix[learnt], groups, items_recipe, seed=seed, step=step)
        arrays, stored = label_arrays(items.head), as_stored(codes(items, features))
        text = network_text(base, items_recipe.code_size)
        tried |= {f"items_{key}": value for key, value in asdict(items_recipe).items()}
    shares = ItemLabelShares(arrays).eval()
    known = Known(_shares(shares, stored), catalogue.matrix, _trend(taken, arrays, stored), fields)
    with step(f"{AGGREGATOR}, seed {seed}", blending.steps) as advance:
        fitted = fit_blend(
            known,
            situations.joined(training_kinds(split.train, seed)),
            training_kinds(split.validation, seed + 1),
            blending,
            seed=seed,
            advance=advance,
        )
    manifest = Manifest(
        name=name,
        version=version or "",
        files={},
        image=base.manifest.image,
        embedding=Embedding(stored.shape[1], text),
        categories=catalogue.labels,
        prior=[float(p) for p in prior_of(split.train, known).round(6)],
        max_bag=int(split.train.sizes.max()),
        sources=base.manifest.sources,
        training=Training(TASK_TEXTS["purchases"], command, seed, tried, date),
        metrics={},
        fields=fields,
        data=data,
    )
    return make_bundle(
        out,
        backbone=base.path / BACKBONE,
        items=items,
        network=TrendBlend(shares, fitted.blend).eval(),
        manifest=manifest,
        measure=lambda bundle: (
            measured(bundle, catalogue, taken, split, stored)
            | (measured_items(bundle, taken, split, stored, step) if ranking else {})
        ),
        labels=arrays,
        adapt=(lambda bundle: adapt(bundle, stored)) if adapt else None,
        rank=partial(train_ranking, taken=taken, contexts=split.train, codes=stored, seed=seed, step=step)
        if ranking
        else None,
    )


def _kept_labels(base: Bundle, catalogue: Catalogue) -> LabelArrays:
    """What tells the labels of the embeddings that `base` makes. Raises DatasetError if it tells none, or others."""
    if not base.labels_version or list(base.categories) != list(catalogue.labels):
        what = "has other categories than the items" if base.labels_version else "does not use the trend"
        raise DatasetError(
            f"{base.name} {base.version} {what}, so its item network does not tell their labels: train a new item network"
        )
    with np.load(base.path / LABELS, allow_pickle=False) as file:
        return LabelArrays(**{name: file[name] for name in LabelArrays._fields})


def training_kinds(contexts: Contexts, seed: int) -> list[Contexts]:
    """Return the moments at which the bundle will be asked: at a purchase, at the last event before it, and in a session."""
    warm = situations.read(contexts)
    kinds = [warm, situations.published(contexts), situations.session(warm, seed=seed, noise=SESSION_NOISE)]
    return [kind for kind in kinds if len(kind.targets)]


def measured(
    bundle: Bundle, catalogue: Catalogue, taken: Taken, split: PurchaseSplit, stored: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Measure a bundle at the purchases of held-out users and of those set apart, and in sessions with one viewed item."""
    parts = {
        group_of("purchases"): split.test,
        group_of("purchases", "apart"): split.apart,
        f"{group_of('purchases')} after a view": situations.session(split.test, seed=0, viewed=1),
    }
    return measured_at(parts, bundle, taken, stored, matrix=catalogue.matrix, fields=bundle.manifest.fields)


def measured_items(
    bundle: Bundle, taken: Taken, split: PurchaseSplit, stored: NDArray[np.float32], step: Step
) -> dict[str, dict[str, float]]:
    """Measure the recommended items of a bundle before the purchases of held-out users and of those set apart.

    Returns:
        Figures by name, such as `test/items: all, recommended`.
    """
    found: dict[str, dict[str, float]] = {}
    for part, contexts in (("test", split.test), ("apart", split.apart)):
        if len(contexts.day):
            with step(f"items of the users of {part}", len(contexts.day)) as advance:
                measured = measure_items(bundle, taken, contexts, stored, advance=advance)
            found |= {items_group(part, name): figures for name, figures in measured.figures().items()}
    return found


def _items(
    features: NDArray[np.float32],
    matrix: NDArray[np.bool_],
    groups: list[LabelGroup],
    recipe: ItemRecipe,
    *,
    seed: int,
    step: Step,
) -> ItemNetwork:
    total = recipe.length(len(features)) * -(-len(features) // recipe.batch)
    with step(f"item network, seed {seed}", total) as advance:
        return train_items(features, matrix, groups, recipe, seed=seed, advance=lambda _: advance(1))


def _shares(network: ItemLabelShares, stored: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = np.array_split(stored, len(stored) // 4096 + 1)
        return np.concatenate([network(torch.from_numpy(part)).numpy() for part in parts])


def _trend(taken: Taken, arrays: LabelArrays, stored: NDArray[np.float32]) -> Daily:
    categories = int((arrays.category >= 0).sum())
    return trend_of(taken, ItemLabels(**arrays._asdict(), categories=categories).of(quantize_all(stored)))
