"""Makes a bundle for the demo and for a first try: MobileNet v1 in int8, an item network behind it, and a stack over its labels.

Trained on simulated users over openly licensed photos.

Read `make_default_bundle` from top to bottom; each step is a module of this package.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model import metrics
from model.bundle import EMBEDDER, Bundle, file_sha256
from model.embedder import Embedder
from model.manifest import Embedding, Image, Manifest, Source, Training
from model.preprocessing import DESCRIPTION, PREPROCESSING, decode_picture
from model.sessions import open_session
from offline_training.aggregators import AGGREGATORS
from offline_training.aggregators.fitting import LINEAR, FitRecipe, fit, predict
from offline_training.aggregators.interface import Config
from offline_training.aggregators.item_model import ItemModel
from offline_training.bundles.embedding import embed_pictures
from offline_training.bundles.simulated_users import MAX_BAG, Pool, make_pool, of_one_category, simulate
from offline_training.embedders import mobilenet, pictures
from offline_training.embedders.pictures import Picture
from offline_training.embedders.rounding import round_weights
from offline_training.exporting import export
from offline_training.exporting.bundle_files import make_bundle
from offline_training.item_network.network import ItemRecipe
from offline_training.progress import Step
from offline_training.tasks.bags import Bags
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.evaluation import figures, heaviest_share, scores
from offline_training.tasks.tasks import Split

NAME, VERSION = "default", "2.0.0"
THREADS = 2
TRAINING_THREADS = 1
"""The networks are small: a second thread gains little on idle cores, and on shared ones waiting for it costs ten times the step."""
VIEWS = {"catalogue": 300, "clothing": 2, "grocery": 2}
"""Views of each training photo, itself included: the catalogue has three or four photos of a category, and its categories are asked for
four times as often as the others. Without that weight the item network would rather name the others."""
ROUNDING_PICTURES, CALIBRATION_PICTURES = 64, 160
USERS = 8_000
"""Simulated for each epoch of training, for validation, and for each group of figures."""
KS = (1, 3)
FOLDS = 8
"""The demo's catalogue has as many photos of a category."""
SERVED = "stack"
SERVED_RECIPE = FitRecipe(drawn=20, settling=0)
LINEAR_DRAWN = replace(
    LINEAR, drawn=11, settling=0, rates={"layer": 0.1, "gate": 0.03, "first_query": 0.01, "second_query": 0.001}
)
ITEMS = ItemRecipe(width=512, epochs=6, mixup=1.0)
COMMAND = "tastestream train default-bundle --data DATA --catalogue streams/demo/catalogue --out model/bundles/default --seed {seed}"

SOURCES = [
    Source(
        "MobileNet v1 1.0 224, trained on ImageNet",
        "the embedder's weights: batch norms folded, rounded to int8",
        "Apache-2.0",
        "The TensorFlow Authors (TF-Slim image classification models)",
    ),
    Source(
        "clothing dataset (small)",
        "photos: training, validation, figures",
        "CC0-1.0",
        "Alexey Grigorev and contributors",
    ),
    Source(
        "Grocery Store Dataset", "photos: training, validation, figures", "MIT", "Copyright (c) 2019 Marcus Klasson"
    ),
    Source(
        "demo catalogue",
        "photos: training (split train), figures (split demo)",
        "Unsplash License",
        "the photographers named in catalogue.json",
    ),
]


def make_default_bundle(
    *, data: Path, catalogue: Path, out: Path, work: Path, seed: int, epochs: int | None, step: Step
) -> Bundle:
    """Train and write the default bundle, then load it as a worker would.

    Args:
        data: folder with `mobilenet/`, `clothing/` and `grocery/`.
        catalogue: folder of the demo's catalogue.
        out: the bundle's folder; its three files are replaced.
        work: folder for cached embeddings; may be deleted at any time.
        seed: of every chance in it.
        epochs: of each network, instead of the recipes' own.
        step: opens progress bars.
    """
    torch.set_num_threads(TRAINING_THREADS)
    sources = [
        pictures.read_catalogue(catalogue),
        pictures.read_clothing(data / "clothing"),
        pictures.read_grocery(data / "grocery"),
    ]
    categories = pictures.category_names([picture for source in sources for picture in source])
    base = work / EMBEDDER
    make_base(
        weights=data / "mobilenet" / mobilenet.WEIGHTS_FILE,
        sources=sources,
        path=base,
        work=work,
        seed=seed,
        step=step,
    )
    embedder = Embedder(
        open_session(base, THREADS), mobilenet.IMAGE_SIZE, mobilenet.EMBEDDING_SIZE, file_sha256(base)[:12]
    )
    parts = embed_sources(sources, embedder, work, seed, step)
    embeddings = np.concatenate([part.reshape(-1, embedder.embedding_size) for _, part in parts])
    views = [(chosen, part.shape[1]) for chosen, part in parts]
    training, validation, held_out = (make_pool(views, categories, split) for split in ("train", "validation", "test"))
    demo = make_pool(views, categories, "test", "catalogue")
    shown = [picture for chosen, count in views for picture in chosen for _ in range(count)]  # of each row

    def users(pool: Pool, number: int) -> Bags:
        return simulate(pool, USERS, np.random.default_rng((seed, number)))

    def drawn(chance: np.random.Generator) -> Bags:
        return simulate(training, USERS, chance)

    seen = np.array([picture.split == "train" for picture in shown])
    products = np.unique([picture.name for picture in shown], return_inverse=True)[1]
    matrix = np.array([picture.category for picture in shown])[:, None] == np.array(categories)
    split = Split(users(training, 1), users(validation, 2), users(held_out, 3), ~seen, products, drawn)
    items = ItemModel(
        Catalogue([picture.name for picture in shown], categories, embeddings, matrix, missing=0),
        split,
        recipe=ITEMS if epochs is None else replace(ITEMS, epochs=epochs),
        seed=seed,
        step=step,
        folds=FOLDS,
    )

    def short(recipe: FitRecipe) -> FitRecipe:
        return recipe if epochs is None else replace(recipe, drawn=epochs)

    served = items.aggregator(SERVED, short(SERVED_RECIPE)).network
    baselines: dict[str, nn.Module] = {}
    for name in ("average", "nan", "nan+cg"):
        torch.manual_seed(seed)
        baselines[name] = AGGREGATORS[name](Config(embedder.embedding_size, len(categories)), None)
        with step(f"{name}, to compare", short(LINEAR_DRAWN).length(split)) as advance:
            fit(
                baselines[name],
                torch.from_numpy(embeddings),
                split,
                short(LINEAR_DRAWN),
                seed=seed,
                advance=advance,
            )

    def measure(bundle: Bundle) -> dict[str, dict[str, float]]:
        """Of the bundle's own files and of the baselines, over users of photos that no training user has."""
        of: dict[str, Callable[[Bags], NDArray[np.float32]]] = {
            "as shipped": lambda bags: scores(bundle, bags, items.codes),
            **{
                name: lambda bags, network=network: predict(network, torch.from_numpy(embeddings), bags)
                for name, network in baselines.items()
            },
            "popularity": lambda bags: np.tile(bundle.prior, (len(bags.rows), 1)),
        }
        found: dict[str, dict[str, float]] = {}
        groups = {"held_out": split.test, "demo_photos": users(demo, 4)}
        for name, method in of.items():
            threshold = metrics.best_threshold(method(split.validation), split.validation.targets)
            for group, bags in groups.items():
                found[f"{group}/{name}"] = figures(method(bags), bags, threshold, KS)
                if name == "as shipped":
                    found[f"{group}/{name}"]["heaviest item's share"] = heaviest_share(bundle, bags, items.codes)
        for group, pool in {"held_out": held_out, "demo_photos": demo}.items():
            for size in (1, 3):
                bags = of_one_category(pool, size)
                found[f"{group}/one category, bags of {size}"] = figures(
                    scores(bundle, bags, items.codes), bags, 0.5, KS
                )
        return {name: {key: round(value, 4) for key, value in one.items()} for name, one in sorted(found.items())}

    manifest = Manifest(
        name=NAME,
        version=VERSION,
        files={},
        image=Image(mobilenet.IMAGE_SIZE, PREPROCESSING, DESCRIPTION),
        embedding=Embedding(
            ITEMS.code_size,
            f"MobileNet v1 1.0 224 without its head, int8 (QDQ), and an item network to {ITEMS.code_size} numbers",
        ),
        categories=categories,
        prior=[round(float(p), 5) for p in split.train.targets.mean(0)],
        max_bag=MAX_BAG,
        sources=SOURCES,
        training=Training(
            "predict the categories of a simulated user's taste from pictures drawn from it",
            COMMAND.format(seed=seed),
            seed,
            {
                "aggregator": SERVED,
                "views_catalogue": VIEWS["catalogue"],
                "views_other": VIEWS["clothing"],
                **{f"items_{key}": value for key, value in asdict(ITEMS).items()},
            },
        ),
        metrics={},
    )
    return make_bundle(out, base=base, items=items.network, network=served, manifest=manifest, measure=measure)


def make_base(*, weights: Path, sources: list[list[Picture]], path: Path, work: Path, seed: int, step: Step) -> None:
    """Round and export MobileNet, with ranges from training photos of clothing and grocery."""
    train_pictures = [picture for source in sources[1:] for picture in source if picture.split == "train"]
    chosen = np.random.default_rng((seed, 0)).choice(len(train_pictures), CALIBRATION_PICTURES, replace=False)
    with step("rounding the embedder to int8", 4) as advance:
        sample = np.stack([decode_picture(train_pictures[i].path.read_bytes(), mobilenet.IMAGE_SIZE) for i in chosen])
        network = mobilenet.MobileNet.from_file(weights)
        advance(1)
        rounded = round_weights(network, torch.from_numpy(sample[:ROUNDING_PICTURES]))
        advance(1)
        work.mkdir(parents=True, exist_ok=True)
        export.export_float_embedder(rounded, work / "float.onnx")
        advance(1)
        export.quantize_embedder(work / "float.onnx", path, sample)
        advance(1)


def embed_sources(
    sources: list[list[Picture]], embedder: Embedder, work: Path, seed: int, step: Step
) -> list[tuple[list[Picture], NDArray[np.float32]]]:
    """Training photos in several views, all others as they are: (pictures, embeddings [N, V, d]) for each source and purpose."""
    parts: list[tuple[list[Picture], NDArray[np.float32]]] = []
    for source in sources:
        for training in (True, False):
            chosen = [picture for picture in source if (picture.split == "train") == training]
            views = VIEWS[chosen[0].source] if training else 1
            with step(
                f"embedding {chosen[0].source}, {'training' if training else 'held out'}", len(chosen) * views
            ) as advance:
                parts.append((chosen, embed_pictures(chosen, views, embedder, seed=seed, cache=work, advance=advance)))
    return parts
