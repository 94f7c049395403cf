"""Makes a bundle from a folder of classes alone. Read `make_class_bundle` from top to bottom."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.bundle import BACKBONE, ITEMS, Bundle
from model.bundle.manifest import Data, Embedding, Manifest, Training
from model.quantization import as_stored
from offline_training.aggregators.fitting import FitRecipe, fit
from offline_training.aggregators.interface import Config
from offline_training.aggregators.sets import LabelUnion
from offline_training.bundles.classes.folder import ClassPictures
from offline_training.bundles.classes.head import FOLDS, FittedHead, fit_head, sureness
from offline_training.bundles.simulated_users import MAX_BAG, Pool, simulate
from offline_training.embedders.probe import LinearClassifier
from offline_training.exporting import export
from offline_training.exporting.bundle_files import make_bundle
from offline_training.item_network.network import LabelGroup, LabelHead
from offline_training.progress import Step
from offline_training.tasks.bags import Bags
from offline_training.tasks.evaluation import evaluate
from offline_training.tasks.split import Split

USERS = 2_000
"""Users simulated for each part of the split."""
RECIPE = FitRecipe(drawn=0, epochs=20, rate=0.05, weight_decay=0.0)
"""For the two numbers of `LabelUnion`."""
NEVER = -1e4  # logit of "none of the classes": a picture is of one of them
KS = (1, 3)
MEASURED = {3, 4}  # folds whose pictures the users have that the figures are measured on


def make_class_bundle(
    *,
    base: Bundle,
    pictures: ClassPictures,
    name: str,
    version: str | None,
    command: str,
    seed: int,
    out: Path,
    step: Step,
    date: str = "",
    data: Data | None = None,
) -> tuple[Bundle, FittedHead]:
    """Fit, write and measure a bundle.

    An item's embedding is its logits of the classes. Users are simulated over the pictures, each with the logits of the layer
    that has not learned from it, so the aggregator trusts the layer no more than it deserves.

    Args:
        base: bundle whose backbone made the features of the pictures.
        pictures: the classes and their pictures.
        name: name of the bundle.
        version: version of the bundle. None: by the date and the content, `dated_version`.
        command: command line to note in the manifest.
        seed: random seed.
        out: the bundle's folder. Its files are replaced at the end.
        step: opens progress bars.
        date: the time now, RFC 3339.
        data: what is learnt from, for the manifest.

    Returns:
        The bundle, loaded as a worker loads it, and the layer.
    """
    with step("item head", FOLDS + 1) as advance:
        head = fit_head(pictures, seed=seed, advance=advance)
    codes = as_stored(head.held_out)
    split = _simulated(pictures, head.folds, seed)
    network = _union(len(pictures.classes))
    with step("aggregator on simulated users", RECIPE.length(split)) as advance:
        fit(network, torch.from_numpy(codes), split, RECIPE, seed=seed, advance=advance)
    classes = len(pictures.classes)
    backbone = base.manifest.embedding.network.partition(", and an item network")[0]
    manifest = Manifest(
        name=name,
        version=version or "",
        files={},
        image=base.manifest.image,
        embedding=Embedding(classes, f"{backbone}, and an item network to {classes} numbers, one layer"),
        categories=pictures.classes,
        prior=[round(float(p), 5) for p in split.train.targets.mean(0)],
        max_bag=MAX_BAG,
        sources=base.manifest.sources,
        training=Training(
            "name the class of a picture; predict the classes of a simulated user's taste from pictures drawn from it",
            command,
            seed,
            {"aggregator": "union", "penalty": head.strength, "pictures": len(pictures.names)},
            date,
        ),
        metrics={},
        data=data,
    )
    with TemporaryDirectory() as folder:
        items = Path(folder) / ITEMS
        export.export_items(_layer(head.classifier), pictures.features.shape[1], items)
        made = make_bundle(
            out,
            backbone=base.path / BACKBONE,
            items=items,
            network=network.eval(),
            manifest=manifest,
            measure=lambda bundle: {
                "pictures not learned from": _rounded(sureness(pictures, head.held_out)),
                "simulated users": evaluate(bundle, split, codes, KS),
            },
        )
    return made, head


def _simulated(pictures: ClassPictures, folds: NDArray[np.int64], seed: int) -> Split:
    """Simulate users. Those for the figures share no picture with the others."""
    measured = np.isin(folds, list(MEASURED))

    def users(chosen: NDArray[np.bool_], number: int) -> Bags:
        rows = {
            category: members
            for category in range(len(pictures.classes))
            if len(members := np.flatnonzero(chosen & (pictures.numbers == category)))
        }
        pool = Pool(rows, {"": list(rows)}, len(pictures.classes))
        return simulate(pool, USERS, np.random.default_rng((seed, number)))

    return Split(
        users(~measured, 1),
        users(~measured, 2),
        users(measured, 3),
        np.zeros(len(measured), bool),
        np.arange(len(measured)),
    )


def _union(classes: int) -> LabelUnion:
    """Make the aggregator. The embedding is logits already, so its label head is the identity."""
    head = LabelHead(classes, classes, [LabelGroup(list(range(classes)), exclusive=True)])
    with torch.no_grad():
        head.layer.weight.copy_(torch.eye(classes + 1, classes))
        head.layer.bias.copy_(torch.tensor([0.0] * classes + [NEVER]))
    return LabelUnion(Config(classes, classes), head=head)


def _layer(classifier: LinearClassifier) -> nn.Linear:
    classes, features = classifier.weight.shape
    layer = nn.Linear(features, classes)
    with torch.no_grad():
        layer.weight.copy_(classifier.weight)
        layer.bias.copy_(classifier.bias)
    return layer


def _rounded(measured: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measured.items()}
