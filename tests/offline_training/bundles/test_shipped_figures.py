"""The figures in the manifest of the shipped bundle are those of its files, on the photos that training has not seen."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from model.bundle import Bundle  # noqa: E402
from model.quantization import as_stored, quantize_all  # noqa: E402
from offline_training.bundles.default import RECIPE, PhotoEmbeddings, measure, simulate_users  # noqa: E402
from offline_training.bundles.embedding import embed_pictures  # noqa: E402
from offline_training.embedders.training_data import pictures  # noqa: E402
from streams.demo.catalogue import CATALOGUE  # noqa: E402
from tests.data import DATA, needs  # noqa: E402

pytestmark = pytest.mark.training

CLOSE = 0.005  # processors differ in the last bits of a product, and a photo at a threshold then counts elsewhere


@needs("clothing", "grocery")
def test_the_figures_are_those_of_the_files(tmp_path: Path) -> None:
    bundle = Bundle.load()
    backbone, embedder = bundle.backbone(threads=2), bundle.split_embedder()
    sources = [
        pictures.read_catalogue(Path(CATALOGUE)),
        pictures.read_clothing(DATA / "clothing"),
        pictures.read_grocery(DATA / "grocery"),
    ]
    parts: list[PhotoEmbeddings] = []
    for source in sources:
        training = [picture for picture in source if picture.split == "train"]
        views = RECIPE.views[source[0].source]
        parts.append(PhotoEmbeddings(training, np.zeros((len(training), views, 1), np.float32)))
        held_out = [picture for picture in source if picture.split != "train"]
        found = embed_pictures(held_out, 1, backbone, seed=0, cache=tmp_path, advance=lambda _: None)
        parts.append(PhotoEmbeddings(held_out, found))
    codes = [
        np.zeros((len(part.pictures) * part.views, bundle.embedding_size), np.float32)
        if part.pictures[0].split == "train"
        else as_stored(embedder.of_features(quantize_all(part.embeddings[:, 0])))
        for part in parts
    ]
    users = simulate_users(parts, list(bundle.categories), RECIPE.users, bundle.manifest.training.seed)
    measured = measure(bundle, np.concatenate(codes), {}, np.empty(0, np.float32), users)
    shipped = {name: bundle.manifest.metrics[name] for name in measured}
    assert {"held_out/as shipped", "demo_photos/as shipped", "held_out/one category, bags of 1"} <= shipped.keys()
    far = {
        f"{name} {figure}": (value, measured[name][figure])
        for name, figures in shipped.items()
        for figure, value in figures.items()
        if abs(measured[name][figure] - value) > CLOSE
    }
    assert not far
