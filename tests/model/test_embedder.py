"""The shipped embedder: an embedding does not depend on the batch, and pictures of the demo are recognised end to end."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from model.embedder import Embedder
from model.preprocessing import decode_picture
from model.quantization import dequantize, is_finite, quantize, quantize_all
from model.scoring import ScoringBag, score_bags
from tests.model.bundle.networks import write_colours

CATALOGUE = Path(__file__).parents[2] / "streams" / "demo" / "catalogue"


@pytest.fixture(scope="session")
def embedder(bundle: Bundle) -> Embedder:
    return bundle.embedder()


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), np.uint8)


def test_a_batch_gives_the_same_embeddings_as_single_pictures(embedder: Embedder, noise: np.ndarray) -> None:
    together = embedder.embed(noise)
    assert together.shape == (6, embedder.embedding_size)
    assert together.dtype == np.float32
    assert np.allclose(together, np.concatenate([embedder.embed(picture[None]) for picture in noise]), atol=1e-5)


def test_a_code_made_from_a_picture_equals_the_one_made_later_from_stored_features(
    bundle: Bundle, embedder: Embedder, noise: np.ndarray
) -> None:
    stored = [row for picture in noise for row in bundle.backbone().features(picture[None])]
    later = bundle.split_embedder().of_features(stored)
    now = np.concatenate([embedder.embed(picture[None]) for picture in noise])
    assert [quantize(one) for one in later] == [quantize(one) for one in now]


def test_features_that_are_not_finite_make_no_code_and_spoil_no_other(bundle: Bundle, noise: np.ndarray) -> None:
    coder = bundle.split_embedder()
    features = dequantize(bundle.backbone().features(noise[:3]), 1024)
    good = coder.of_features(quantize_all(features))
    for value in (np.nan, np.inf, 1e9):
        features[1, 7] = value
        found = coder.of_features(quantize_all(features))
        assert np.isnan(found[1]).all()
        assert np.array_equal(found[[0, 2]], good[[0, 2]])


def test_a_picture_without_finite_features_has_no_embedding_and_spoils_no_other(
    tmp_path: Path, noise: np.ndarray
) -> None:
    coloured = write_colours(tmp_path / "colours")
    pictures = noise[:3].copy()
    pictures[1] = 0
    found = coloured.embedder().embed(pictures)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, True]
    assert [is_finite(row) for row in coloured.backbone().features(pictures)] == [True, False, True]
    assert np.array_equal(found[[0, 2]], coloured.embedder().embed(pictures[[0, 2]]))


def test_a_row_of_features_of_another_length_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"row 1 of 2: expected 1032 bytes for an embedding of 1024, found 584"):
        bundle.split_embedder().of_features([bytes(1032), bytes(584)])


def test_no_features_give_no_codes(bundle: Bundle) -> None:
    assert bundle.split_embedder().of_features([]).shape == (0, bundle.embedding_size)


def test_threads_can_share_an_embedder(embedder: Embedder, noise: np.ndarray) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(embedder.embed, [noise[:2]] * 8))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_no_pictures_give_no_embeddings(embedder: Embedder) -> None:
    assert embedder.embed(np.zeros((0, 224, 224, 3), np.uint8)).shape == (0, embedder.embedding_size)


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((1, 224, 224, 3), np.float32), np.zeros((224, 224, 3), np.uint8), np.zeros((1, 192, 192, 3), np.uint8)],
)
def test_wrong_shapes_and_dtypes_are_refused(embedder: Embedder, pictures: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected pictures uint8 \[B, 224, 224, 3\], found"):
        embedder.embed(pictures)


def test_two_demo_pictures_of_a_category_rank_it_first_or_second(bundle: Bundle, embedder: Embedder) -> None:
    if not (CATALOGUE / "catalogue.json").exists():
        pytest.skip(f"needs the demo's catalogue, and {CATALOGUE} has none")
    products = [p for p in json.loads((CATALOGUE / "catalogue.json").read_text())["products"] if p["split"] == "demo"]
    by_category: dict[str, list[str]] = {}
    for product in products:
        by_category.setdefault(product["category"], []).append(product["file"])
    found = 0
    for category, files in by_category.items():
        pictures = np.stack([decode_picture((CATALOGUE / file).read_bytes(), bundle.image_size) for file in files[:2]])
        (scored,) = score_bags(
            bundle.aggregator(), [ScoringBag(embedder.embed(pictures), np.zeros(len(pictures), np.float32))]
        )
        best = [bundle.categories[i] for i in np.argsort(-scored.scores)[:2]]
        found += category in best
    assert found >= len(by_category) - 1
