"""Makes the bundle that ships, for the demo and a first try. It is trained on simulated users over openly licensed photos.

The backbone is MobileNet v1 in int8, with an item network on top; the aggregator is a stack over the item network's labels.
MobileNet's own last layer adds the kinds of any product (`offline_training.bundles.kinds`).
Read `make_default_bundle` from top to bottom.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model.bundle import BACKBONE, Bundle, file_sha256
from model.bundle.manifest import Embedding, Image, Manifest, Provenance, Training
from model.embedder import Backbone
from model.preprocessing import DESCRIPTION, PREPROCESSING, decode_picture
from model.sessions import open_session
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.fitting import LINEAR, FitRecipe, fit
from offline_training.aggregators.interface import Config
from offline_training.aggregators.item_model import ItemModel
from offline_training.bundles.kinds.graphs import add_kinds
from offline_training.bundles.kinds.table import kind_head
from offline_training.bundles.photos import (
    EMBEDDING_THREADS,
    USERS,
    PhotoEmbeddings,
    embed_sources,
    measure,
    measure_kinds,
    read_sources,
    rows_of,
    simulate_users,
    table_of,
)
from offline_training.bundles.simulated_users import MAX_BAG
from offline_training.embedders.backbones import mobilenet
from offline_training.embedders.backbones.rounding import round_weights
from offline_training.embedders.training_data import pictures
from offline_training.embedders.training_data.pictures import LabelledPicture
from offline_training.exporting import export
from offline_training.exporting.bundle_files import make_bundle
from offline_training.item_network.network import ItemRecipe
from offline_training.progress import Step
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.split import Split

NAME, VERSION = "default", "5.0.0"
TRAINING_THREADS = 1
"""The networks are small: a second thread gains little on idle cores, and on shared cores waiting for it costs ten times the step."""
SERVED = "stack"
"""The aggregator that ships, a name of `AGGREGATORS`."""
BASELINES = ("average", "nan", "nan+cg")
"""The paper's aggregators over plain embeddings. They are trained for the figures only."""
COMMAND = "tastestream train default-bundle --data DATA --catalogue streams/demo/catalogue --out model/bundles/default --seed {seed}"

SOURCES = [
    Provenance(
        "MobileNet v1 1.0 224, trained on ImageNet",
        "the embedder's weights: batch norms folded, rounded to int8",
        "Apache-2.0",
        "The TensorFlow Authors (TF-Slim image classification models)",
    ),
    Provenance(
        "clothing dataset (small)",
        "photos: training, validation, figures",
        "CC0-1.0",
        "Alexey Grigorev and contributors",
    ),
    Provenance(
        "Grocery Store Dataset", "photos: training, validation, figures", "MIT", "Copyright (c) 2019 Marcus Klasson"
    ),
    Provenance(
        "demo catalogue",
        "photos: training (split train), figures (split demo)",
        "Unsplash License",
        "the photographers named in catalogue.json",
    ),
]


@dataclass(frozen=True)
class BundleRecipe:
    """The numbers that decide what the training makes.

    Attributes:
        views: by source, views of each training photo, itself included. The catalogue has three or four photos of a category, and its
            categories are asked for four times as often as the others. With fewer views, the item network would favour the others.
        rounding_pictures: photos that MobileNet's weights are rounded on.
        calibration_pictures: photos that set the ranges of the int8 activations.
        users: users simulated for each epoch of training, for validation, and for each group of figures.
        folds: folds of `ItemModel`. The demo's catalogue has as many photos of a category.
        items: recipe of the item network.
        served: recipe of the aggregator that ships.
        baseline: recipe of each of `BASELINES`.
    """

    views: Mapping[str, int]
    rounding_pictures: int
    calibration_pictures: int
    users: int
    folds: int
    items: ItemRecipe
    served: FitRecipe
    baseline: FitRecipe

    def with_epochs(self, epochs: int) -> "BundleRecipe":
        """Return the same recipe with `epochs` epochs for each network."""
        return replace(
            self,
            items=replace(self.items, epochs=epochs, min_steps=0),
            served=replace(self.served, drawn=epochs, min_steps=0, enough_steps=0),
            baseline=replace(self.baseline, drawn=epochs, min_steps=0, enough_steps=0),
        )


RECIPE = BundleRecipe(
    views={"catalogue": 300, "clothing": 2, "grocery": 2},
    rounding_pictures=64,
    calibration_pictures=160,
    users=USERS,
    folds=8,
    items=ItemRecipe(width=512, epochs=6, mixup=1.0),
    served=FitRecipe(drawn=20, settling=0),
    baseline=replace(
        LINEAR,
        drawn=11,
        settling=0,
        enough_steps=0,
        rates={"layer": 0.1, "gate": 0.03, "first_query": 0.01, "second_query": 0.001},
    ),
)
"""Makes the shipped bundle."""


def make_default_bundle(
    *, data: Path, catalogue: Path, out: Path, work: Path, seed: int, step: Step, recipe: BundleRecipe = RECIPE
) -> Bundle:
    """Train, write and measure the default bundle.

    Args:
        data: folder with `mobilenet/`, `clothing/` and `grocery/`.
        catalogue: folder of the demo's catalogue.
        out: the bundle's folder. Its files are replaced.
        work: folder of cached embeddings. It may be deleted at any time.
        seed: random seed.
        step: opens progress bars.
        recipe: numbers of the training.

    Returns:
        The bundle, loaded as a worker loads it.
    """
    torch.set_num_threads(TRAINING_THREADS)
    sources = read_sources(data, catalogue)
    categories = pictures.category_names([picture for source in sources for picture in source])

    path, weights = work / BACKBONE, data / "mobilenet" / mobilenet.WEIGHTS_FILE
    make_backbone(
        weights=weights,
        photos=[picture for source in sources[1:] for picture in source if picture.split == "train"],
        path=path,
        recipe=recipe,
        seed=seed,
        step=step,
    )
    backbone = Backbone(
        open_session(path, EMBEDDING_THREADS), mobilenet.IMAGE_SIZE, mobilenet.EMBEDDING_SIZE, file_sha256(path)[:12]
    )

    parts = embed_sources(sources, backbone, recipe.views, cache=work, seed=seed, step=step)
    embeddings = table_of(parts)
    users = simulate_users(parts, categories, recipe.users, seed)
    items = ItemModel(
        _catalogue(parts, categories, embeddings),
        users.split,
        recipe=recipe.items,
        seed=seed,
        step=step,
        folds=recipe.folds,
    )
    served = items.aggregator(SERVED, recipe.served).network
    baselines = {
        name: fit_baseline(name, embeddings, users.split, recipe.baseline, seed=seed, step=step) for name in BASELINES
    }

    manifest = Manifest(
        name=NAME,
        version=VERSION,
        files={},
        image=Image(mobilenet.IMAGE_SIZE, PREPROCESSING, DESCRIPTION),
        embedding=Embedding(
            recipe.items.code_size,
            f"MobileNet v1 1.0 224 without its head, int8 (QDQ), and an item network to {recipe.items.code_size} numbers",
        ),
        categories=categories,
        prior=[round(float(p), 5) for p in users.split.train.targets.mean(0)],
        max_bag=MAX_BAG,
        sources=SOURCES,
        training=Training(
            "predict the categories of a simulated user's taste from pictures drawn from it",
            COMMAND.format(seed=seed),
            seed,
            {
                "aggregator": SERVED,
                "views_catalogue": recipe.views["catalogue"],
                "views_other": recipe.views["clothing"],
                **{f"items_{key}": value for key, value in asdict(recipe.items).items()},
            },
        ),
        metrics={},
    )
    without_kinds = make_bundle(
        work / "without-kinds",
        backbone=path,
        items=items.network,
        network=served,
        manifest=manifest,
        measure=lambda _: {},
    )
    return add_kinds(
        without_kinds,
        kind_head(weights),
        out,
        version=VERSION,
        measure=lambda bundle: measure(bundle, baselines, embeddings, users) | measure_kinds(bundle, parts),
    )


def make_backbone(
    *, weights: Path, photos: list[LabelledPicture], path: Path, recipe: BundleRecipe, seed: int, step: Step
) -> None:
    """Round MobileNet to int8 and export it.

    Args:
        weights: MobileNet's TensorFlow arrays (`.npz`).
        photos: training photos; some are drawn for rounding and calibration.
        path: ONNX file to write. The float model is written beside it, as `float.onnx`.
        recipe: its numbers of pictures are used.
        seed: random seed of the draw.
        step: opens a progress bar.
    """
    chosen = np.random.default_rng((seed, 0)).choice(len(photos), recipe.calibration_pictures, replace=False)
    with step("rounding the backbone to int8", 4) as advance:
        sample = np.stack([decode_picture(photos[i].path.read_bytes(), mobilenet.IMAGE_SIZE) for i in chosen])
        network = mobilenet.MobileNet.from_file(weights)
        advance(1)
        rounded = round_weights(network, torch.from_numpy(sample[: recipe.rounding_pictures]))
        advance(1)
        path.parent.mkdir(parents=True, exist_ok=True)
        float_path = path.with_name("float.onnx")
        export.export_float_backbone(rounded, float_path, mobilenet.IMAGE_SIZE)
        advance(1)
        export.quantize_backbone(float_path, path, sample)
        advance(1)


def fit_baseline(
    name: str, embeddings: NDArray[np.float32], split: Split, recipe: FitRecipe, *, seed: int, step: Step
) -> nn.Module:
    """Train one of `BASELINES` over plain embeddings, float32 [rows, d]."""
    torch.manual_seed(seed)
    network = AGGREGATORS[name](Config(embeddings.shape[1], split.train.targets.shape[1]), None)
    with step(f"{name}, to compare", recipe.length(split)) as advance:
        fit(network, torch.from_numpy(embeddings), split, recipe, seed=seed, advance=advance)
    return network


def _catalogue(parts: list[PhotoEmbeddings], categories: list[str], embeddings: NDArray[np.float32]) -> Catalogue:
    """Make a catalogue whose items are the rows of the table: every view of every photo."""
    shown = rows_of(parts)
    matrix = np.array([picture.category for picture in shown])[:, None] == np.array(categories)
    return Catalogue([picture.name for picture in shown], categories, embeddings, matrix, missing=0)
