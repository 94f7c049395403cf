"""The photos that the default bundle is trained on, the users simulated over them, and the figures of its manifest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model import metrics
from model.bundle import Bundle
from model.embedder import Backbone
from model.quantization import as_stored
from offline_training.aggregators.fitting import predict
from offline_training.bundles.embedding import embed_pictures
from offline_training.bundles.kinds.measuring import Named, named
from offline_training.bundles.kinds.measuring import figures as kind_figures
from offline_training.bundles.simulated_users import Pool, make_pool, of_one_category, simulate
from offline_training.embedders.training_data import pictures
from offline_training.embedders.training_data.pictures import LabelledPicture
from offline_training.progress import Step
from offline_training.tasks.bags import Bags
from offline_training.tasks.evaluation import codes_of, figures, heaviest_share, scores
from offline_training.tasks.split import Split

EMBEDDING_THREADS = 2
KS = (1, 3)
USERS = 8_000
"""Users of each group of figures."""
CATALOGUE = "catalogue"
"""Source of the demo's photos."""


def read_sources(data: Path, catalogue: Path) -> list[list[LabelledPicture]]:
    """Read the photos of the catalogue, of clothing and of grocery."""
    return [
        pictures.read_catalogue(catalogue),
        pictures.read_clothing(data / "clothing"),
        pictures.read_grocery(data / "grocery"),
    ]


class PhotoEmbeddings(NamedTuple):
    """The training photos of a source, or its other photos, and their embeddings float32 [N, V, d] (V views)."""

    pictures: list[LabelledPicture]
    embeddings: NDArray[np.float32]

    @property
    def views(self) -> int:
        """V."""
        return self.embeddings.shape[1]


class Users(NamedTuple):
    """Pools of held-out photos, and the users simulated on them.

    Attributes:
        split: training, validation and held-out users.
        held_out: pool of the test photos of all sources.
        demo: pool of the catalogue's test photos.
        of_demo: users simulated on `demo`.
    """

    split: Split
    held_out: Pool
    demo: Pool
    of_demo: Bags


def embed_sources(
    sources: list[list[LabelledPicture]],
    backbone: Backbone,
    views: Mapping[str, int],
    *,
    cache: Path,
    seed: int,
    step: Step,
) -> list[PhotoEmbeddings]:
    """Embed the training photos in `views` (by source), and all other photos as they are."""
    parts: list[PhotoEmbeddings] = []
    for source in sources:
        for training in (True, False):
            chosen = [picture for picture in source if (picture.split == "train") == training]
            count = views[chosen[0].source] if training else 1
            title = f"embedding {chosen[0].source}, {'training' if training else 'held out'}"
            with step(title, len(chosen) * count) as advance:
                found = embed_pictures(chosen, count, backbone, seed=seed, cache=cache, advance=advance)
            parts.append(PhotoEmbeddings(chosen, found))
    return parts


def simulate_users(parts: list[PhotoEmbeddings], categories: list[str], count: int, seed: int) -> Users:
    """Simulate `count` users for each part of the split and for the demo; no two parts share a photo."""
    views = [(part.pictures, part.views) for part in parts]
    training, validation, held_out = (make_pool(views, categories, split) for split in ("train", "validation", "test"))
    demo = make_pool(views, categories, "test", "catalogue")
    shown = rows_of(parts)
    seen = np.array([picture.split == "train" for picture in shown])
    products = np.unique([picture.name for picture in shown], return_inverse=True)[1]

    def users(pool: Pool, number: int) -> Bags:
        return simulate(pool, count, np.random.default_rng((seed, number)))

    def drawn(rng: np.random.Generator) -> Bags:
        return simulate(training, count, rng)

    split = Split(
        users(training, 1),
        users(validation, 2),
        users(held_out, 3),
        ~seen,
        products,
        drawn=drawn,
    )
    return Users(split, held_out, demo, users(demo, 4))


def table_of(parts: list[PhotoEmbeddings]) -> NDArray[np.float32]:
    """Return the table of all embeddings, float32 [rows, d]."""
    return np.concatenate([part.embeddings.reshape(-1, part.embeddings.shape[2]) for part in parts])


def rows_of(parts: list[PhotoEmbeddings]) -> list[LabelledPicture]:
    """List the picture of each row of the table of all embeddings."""
    return [picture for part in parts for picture in part.pictures for _ in range(part.views)]


def measure(
    bundle: Bundle,
    baselines: Mapping[str, nn.Module],
    embeddings: NDArray[np.float32],
    users: Users,
) -> dict[str, dict[str, float]]:
    """Measure the bundle's own files and the baselines on users whose photos no training user has.

    The categories are those of the users, which come first in the bundle. The kinds are left out.

    Args:
        bundle: the bundle, as written.
        baselines: trained networks by name.
        embeddings: float32 [rows, d], the features of the photos, as stored. The baselines take them as they are.
        users: whom to measure on.

    Returns:
        Figures rounded to four places, by `group/method`.
    """
    codes, own = as_stored(codes_of(bundle.split_embedder(), embeddings)), users.split.test.targets.shape[1]
    methods: dict[str, Callable[[Bags], NDArray[np.float32]]] = {
        "as shipped": lambda bags: scores(bundle, bags, codes)[:, :own],
        **{
            name: lambda bags, network=network: predict(network, torch.from_numpy(embeddings), bags)
            for name, network in baselines.items()
        },
        "popularity": lambda bags: np.tile(bundle.prior[:own], (len(bags.rows), 1)),
    }
    measured: dict[str, dict[str, float]] = {}
    groups = {"held_out": (users.held_out, users.split.test), "demo_photos": (users.demo, users.of_demo)}
    validation = users.split.validation
    for name, method in methods.items():
        threshold = metrics.best_threshold(method(validation), validation.targets)
        for group, (_, bags) in groups.items():
            measured[f"{group}/{name}"] = figures(method(bags), bags, threshold, KS)
            if name == "as shipped":
                measured[f"{group}/{name}"]["heaviest item's share"] = heaviest_share(bundle, bags, codes)
    for group, (pool, _) in groups.items():
        for size in (1, 3):
            bags = of_one_category(pool, size)
            measured[f"{group}/one category, bags of {size}"] = figures(
                scores(bundle, bags, codes)[:, :own], bags, 0.5, KS
            )
    return {name: {key: round(value, 4) for key, value in one.items()} for name, one in sorted(measured.items())}


def embed_held_out(
    sources: list[list[LabelledPicture]], backbone: Backbone, *, cache: Path, step: Step
) -> list[PhotoEmbeddings]:
    """Embed the photos that training has not seen. Those of training get zeros, for measuring needs none of them."""
    parts: list[PhotoEmbeddings] = []
    for source in sources:
        training = [picture for picture in source if picture.split == "train"]
        parts.append(PhotoEmbeddings(training, np.zeros((len(training), 1, backbone.feature_size), np.float32)))
        photos = [picture for picture in source if picture.split != "train"]
        with step(f"embedding {photos[0].source}, held out", len(photos)) as advance:
            found = embed_pictures(photos, 1, backbone, seed=0, cache=cache, advance=advance)
        parts.append(PhotoEmbeddings(photos, found))
    return parts


def measure_shipped(bundle: Bundle, parts: list[PhotoEmbeddings], count: int = USERS) -> dict[str, dict[str, float]]:
    """Measure a bundle with the categories of the default one, and the kinds, on the photos that training has not seen.

    Args:
        bundle: the bundle.
        parts: the photos, from `embed_held_out`.
        count: users simulated for each group of figures.
    """
    categories = pictures.category_names([picture for part in parts for picture in part.pictures])
    users = simulate_users(parts, categories, count, bundle.manifest.training.seed)
    return measure(bundle, {}, table_of(parts), users) | measure_kinds(bundle, parts)


def measure_kinds(bundle: Bundle, parts: list[PhotoEmbeddings]) -> dict[str, dict[str, float]]:
    """Measure the kinds on the test photos of clothing and grocery."""
    return {
        f"kinds/{source}": {name: round(value, 4) for name, value in kind_figures(photos).items()}
        for source, photos in named_kinds(bundle, parts).items()
    }


def named_kinds(bundle: Bundle, parts: list[PhotoEmbeddings]) -> dict[str, list[Named]]:
    """Name the kinds of the test photos of clothing and grocery, by source."""
    found: dict[str, list[Named]] = {}
    for part in parts:
        chosen = [number for number, picture in enumerate(part.pictures) if picture.split == "test"]
        source = part.pictures[0].source
        if chosen and source != CATALOGUE:
            found[source] = named(bundle, [part.pictures[number] for number in chosen], part.embeddings[chosen, 0])
    return found
