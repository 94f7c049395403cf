"""The recipe of the shipped bundle, end to end on tiny data: it runs, its bundle loads and serves, and the seed decides the result."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnxscript", reason="needs the extra `train`")

from model.bundle import MANIFEST, Bundle  # noqa: E402
from model.preprocessing import decode_picture  # noqa: E402
from offline_training.aggregators.fitting import FitRecipe  # noqa: E402
from offline_training.bundles import default  # noqa: E402
from offline_training.bundles.default import BASELINES, RECIPE, SOURCES, BundleRecipe, make_default_bundle  # noqa: E402
from offline_training.bundles.embedding import embed_pictures  # noqa: E402
from offline_training.bundles.kinds.graphs import KINDS  # noqa: E402
from offline_training.bundles.kinds.table import read_kinds  # noqa: E402
from offline_training.bundles.photos import KS  # noqa: E402
from offline_training.embedders.training_data.pictures import LabelledPicture, read_clothing  # noqa: E402
from offline_training.item_network.network import ItemRecipe  # noqa: E402
from tests.offline_training.bundles.made_photos import COLOURS, photo, write_all  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

pytestmark = pytest.mark.training

SMALL = BundleRecipe(
    views={"catalogue": 3, "clothing": 2, "grocery": 2},
    rounding_pictures=2,
    calibration_pictures=8,
    users=100,
    folds=2,
    items=ItemRecipe(
        code_size=16, width=32, epochs=20, batch=8, rate=1e-2, drop_input=0.0, dropout=0.0, mixup=0.0, min_steps=0
    ),
    served=FitRecipe(batch=32, drawn=3, settling=0, min_steps=0, enough_steps=0),
    baseline=FitRecipe(batch=32, drawn=1, settling=0, min_steps=0, enough_steps=0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds data/, catalogue/, work/ and the bundle."""
    folder = tmp_path_factory.mktemp("default")
    write_all(folder)
    return folder


def make(folder: Path, out: Path) -> Bundle:
    return make_default_bundle(
        data=folder / "data",
        catalogue=folder / "catalogue",
        out=out,
        work=folder / "work",
        seed=0,
        step=step,
        recipe=SMALL,
    )


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    make(folder, folder / "bundle")
    return Bundle.load(folder / "bundle")


def test_the_bundle_loads_with_the_categories_of_all_sources(bundle: Bundle) -> None:
    kinds = read_kinds()
    assert bundle.categories == (*COLOURS, *kinds)
    assert bundle.embedding_size == SMALL.items.code_size + len(kinds)
    assert bundle.prior.shape == (len(COLOURS) + len(kinds),)
    assert (bundle.prior > 0).all()


def test_its_embedder_and_its_aggregator_name_the_category_of_a_new_photo(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    pictures: list[np.ndarray] = []
    for category in COLOURS:
        photo(category, rng).save(tmp_path / "new.png")
        pictures.append(decode_picture((tmp_path / "new.png").read_bytes(), bundle.image_size))
    embeddings = bundle.embedder().embed(np.stack(pictures))
    assert embeddings.shape == (len(COLOURS), bundle.embedding_size)
    scored = bundle.aggregator().score(embeddings[:, None], np.zeros((len(COLOURS), 1), np.float32))
    named = [bundle.categories[best] for best in scored.scores[:, : len(COLOURS)].argmax(1)]
    assert sum(name == category for name, category in zip(named, COLOURS, strict=True)) >= 5, named
    assert np.allclose(scored.attention, 1, atol=1e-5)


def test_the_manifest_holds_the_figures_of_the_bundle_and_of_what_it_is_compared_with(bundle: Bundle) -> None:
    methods = {"as shipped", *BASELINES, "popularity", "one category, bags of 1", "one category, bags of 3"}
    measured = bundle.manifest.metrics
    kinds = {"kinds/clothing", "kinds/grocery"}
    assert set(measured) == {f"{group}/{method}" for group in ("held_out", "demo_photos") for method in methods} | kinds
    for figures in (measured[name] for name in measured.keys() - kinds):
        assert {f"{figure}@{k}" for figure in ("recall", "precision") for k in KS} <= set(figures)
        assert all(np.isfinite(value) for value in figures.values())
    assert measured["held_out/as shipped"]["users"] == SMALL.users
    assert measured["held_out/as shipped"]["MAP"] > measured["held_out/popularity"]["MAP"]


def test_the_manifest_says_what_the_bundle_is_made_of(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.sources == [*SOURCES, KINDS]
    assert manifest.training.seed == 0
    assert manifest.training.command.endswith("--seed 0")
    assert manifest.training.recipe["items_code_size"] == SMALL.items.code_size
    assert manifest.training.recipe["views_catalogue"] == SMALL.views["catalogue"]


def test_the_same_seed_gives_the_same_bundle(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def keep_backbone(**_: object) -> None:
        """The backbone of the first run is in work/ already."""

    monkeypatch.setattr(default, "make_backbone", keep_backbone)
    make(folder, tmp_path / "again")
    assert (tmp_path / "again" / MANIFEST).read_bytes() == (bundle.path / MANIFEST).read_bytes()


def test_epochs_shorten_each_network() -> None:
    short = RECIPE.with_epochs(1)
    assert (short.items.epochs, short.served.drawn, short.baseline.drawn) == (1, 1, 1)
    assert replace(short, items=RECIPE.items, served=RECIPE.served, baseline=RECIPE.baseline) == RECIPE


def test_embeddings_are_cached_by_pictures_views_and_seed(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    pictures = read_clothing(folder / "data" / "clothing")[:2]
    backbone = bundle.backbone()

    def embed(chosen: list[LabelledPicture], views: int, seed: int) -> np.ndarray:
        return embed_pictures(chosen, views, backbone, seed=seed, cache=tmp_path, advance=lambda _: None)

    first = embed(pictures, 2, 0)
    assert first.shape == (2, 2, backbone.feature_size)
    assert not np.array_equal(first[:, 0], first[:, 1]), "the second view is a random one"
    [cached] = tmp_path.iterdir()
    written = cached.stat().st_mtime_ns
    assert np.array_equal(embed(pictures, 2, 0), first)
    assert cached.stat().st_mtime_ns == written
    assert np.array_equal(embed(pictures, 2, 1)[:, 0], first[:, 0]), "the first view is the picture as it is"
    embed(pictures[:1], 2, 0)
    embed(pictures, 1, 0)
    assert len(list(tmp_path.iterdir())) == 4
