"""Makes the bundle that ships: MobileNet v1 in int8, and NAN with context gating trained on simulated users over
openly licensed photos.

Read `make_default_bundle` from top to bottom; each step is a module of this package.
"""

from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from model import metrics
from model.bundle import AGGREGATOR, EMBEDDER, Bundle, file_sha256
from model.embedder import Embedder
from model.manifest import Embedding, Image, Manifest, Source, Training
from model.preprocessing import DESCRIPTION, PREPROCESSING, decode_picture
from model.sessions import open_session
from offline_training import evaluation, export, mobilenet, pictures
from offline_training.aggregators.interface import Config
from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork
from offline_training.aggregators.served import Served
from offline_training.bundle_files import install, write_manifest
from offline_training.embedding import embed_pictures
from offline_training.pictures import Picture
from offline_training.progress import Step
from offline_training.rounding import round_weights
from offline_training.training import Recipe, train
from offline_training.users import MAX_BAG, Pool, User, make_pool, simulate

NAME, VERSION = "default", "1.0.0"
THREADS = 2
TRAINING_THREADS = 1
"""The networks are small: a second thread gains little on idle cores, and on shared ones waiting for it costs ten times the step."""
VIEWS = {"catalogue": 100, "clothing": 2, "grocery": 2}
"""Views of each training photo, itself included: the catalogue has five photos of a category at most."""
ROUNDING_PICTURES, CALIBRATION_PICTURES = 64, 160
PRIOR_USERS, HELD_OUT_USERS = 20_000, 4_000
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
    *, data: Path, catalogue: Path, out: Path, work: Path, seed: int, recipe: Recipe, step: Step
) -> Bundle:
    """Train and write the default bundle, then load it as a worker would.

    Args:
        data: folder with `mobilenet/`, `clothing/` and `grocery/`.
        catalogue: folder of the demo's catalogue.
        out: the bundle's folder; its three files are replaced.
        work: folder for cached embeddings; may be deleted at any time.
        seed: of every chance in it.
        recipe: of the training.
        step: opens progress bars.
    """
    torch.set_num_threads(TRAINING_THREADS)
    built = work / "bundle"  # `out` keeps its old bundle until the new one is measured
    built.mkdir(parents=True, exist_ok=True)
    sources = [
        pictures.read_catalogue(catalogue),
        pictures.read_clothing(data / "clothing"),
        pictures.read_grocery(data / "grocery"),
    ]
    categories = pictures.category_names([picture for source in sources for picture in source])

    make_embedder(
        weights=data / "mobilenet" / mobilenet.WEIGHTS_FILE,
        sources=sources,
        path=built / EMBEDDER,
        work=work,
        seed=seed,
        step=step,
    )
    embedder = Embedder(
        open_session(built / EMBEDDER, THREADS),
        mobilenet.IMAGE_SIZE,
        mobilenet.EMBEDDING_SIZE,
        file_sha256(built / EMBEDDER),
    )
    parts = embed_sources(sources, embedder, work, seed, step)
    training, validation, held_out = (make_pool(parts, categories, split) for split in ("train", "validation", "test"))

    prior = label_frequency(simulate(training, PRIOR_USERS, np.random.default_rng((seed, 1))), len(categories))
    config = Config(mobilenet.EMBEDDING_SIZE, len(categories))
    networks: dict[str, NeuralAggregationNetwork | MaskedAverage] = {}
    for title, make in {
        "nan": lambda: NeuralAggregationNetwork(config.without_gate()),
        "masked_average": lambda: MaskedAverage(config),
        "nan_cg": lambda: NeuralAggregationNetwork(config),
    }.items():
        torch.manual_seed(seed)
        networks[title] = make()
        networks[title].start_at(torch.from_numpy(prior))
        with step(f"training {title}", recipe.steps) as advance:
            train(networks[title], training, recipe, seed, lambda _, advance=advance: advance(1))

    served = networks.pop("nan_cg")
    export.export_aggregator(Served(served).eval(), mobilenet.EMBEDDING_SIZE, built / AGGREGATOR)
    manifest = Manifest(
        name=NAME,
        version=VERSION,
        files={name: file_sha256(built / name) for name in (EMBEDDER, AGGREGATOR)},
        image=Image(mobilenet.IMAGE_SIZE, PREPROCESSING, DESCRIPTION),
        embedding=Embedding(mobilenet.EMBEDDING_SIZE, "MobileNet v1 1.0 224 without its head, int8 (QDQ)"),
        categories=categories,
        prior=[round(float(p), 5) for p in prior],
        max_bag=MAX_BAG,
        sources=SOURCES,
        training=Training(
            "predict the categories of a simulated user's taste from pictures drawn from it",
            COMMAND.format(seed=seed),
            seed,
            {**asdict(recipe), "views_catalogue": VIEWS["catalogue"], "views_other": VIEWS["clothing"]},
        ),
        metrics={},
    )
    write_manifest(built, manifest)
    with step("measuring", 1) as advance:
        measured = measure(
            bundle=Bundle.load(built),
            baselines=networks,
            parts=parts,
            validation=validation,
            held_out=held_out,
            seed=seed,
        )
        advance(1)
    write_manifest(built, msgspec.structs.replace(manifest, metrics=measured))
    return install(built, out)


def make_embedder(
    *, weights: Path, sources: list[list[Picture]], path: Path, work: Path, seed: int, step: Step
) -> None:
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


def label_frequency(users: list[User], categories: int) -> NDArray[np.float32]:
    """P(label) of each category, float32 [categories]."""
    counts = np.zeros(categories)
    for user in users:
        counts[user.labels] += 1
    return (counts / len(users)).astype(np.float32)


def measure(
    *,
    bundle: Bundle,
    baselines: dict[str, NeuralAggregationNetwork | MaskedAverage],
    parts: list[tuple[list[Picture], NDArray[np.float32]]],
    validation: Pool,
    held_out: Pool,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Figures of the bundle's own files and of the baselines, over users of photos that no training user has."""
    categories = list(bundle.categories)
    demo = make_pool([part for part in parts if part[0][0].source == "catalogue"], categories, "test")
    aggregator = bundle.aggregator(THREADS)
    methods = {"nan_cg": evaluation.by_aggregator(aggregator)}
    methods |= {name: evaluation.by_network(network) for name, network in baselines.items()}
    methods["popularity"] = evaluation.by_popularity(bundle.prior)
    pools = {"validation": validation, "held_out": held_out, "demo_photos": demo}
    users = {
        name: simulate(pool, HELD_OUT_USERS, np.random.default_rng((seed, 2, index)))
        for index, (name, pool) in enumerate(pools.items())
    }

    measured: dict[str, dict[str, float]] = {}
    for name, method in methods.items():
        threshold = metrics.best_threshold(
            *evaluation.scores_and_labels(method, validation, users["validation"], len(categories))
        )
        for group in ("held_out", "demo_photos"):
            scores, labels = evaluation.scores_and_labels(method, pools[group], users[group], len(categories))
            measured[f"{group}/{name}"] = evaluation.figures(scores, labels, threshold)
    for group in ("held_out", "demo_photos"):
        measured[f"{group}/nan_cg"]["heaviest_item_share"] = evaluation.heaviest_share(
            aggregator, pools[group], users[group]
        )
        for size in (1, 3):
            measured[f"{group}/one_category_{size}"] = evaluation.pure_taste_figures(aggregator, pools[group], size)
    return dict(sorted(measured.items()))
