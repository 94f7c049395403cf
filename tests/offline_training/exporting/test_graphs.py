"""The embedder of an early bundle becomes a backbone and an item network, always the same ones."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx")

import onnx

from model.bundle import BACKBONE, Bundle
from model.exceptions import BundleError
from model.quantization import quantize
from model.sessions import open_session
from offline_training.exporting.graphs import split, split_bundle
from tests.model.bundle.early import write_early


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_early(Bundle.load(), tmp_path_factory.mktemp("early") / "bundle")


def test_splitting_restores_the_two_networks_byte_by_byte(early: Path, tmp_path: Path) -> None:
    shipped = Bundle.load()
    made = split_bundle(Bundle.load(early), tmp_path / "split", version="9", metrics=shipped.manifest.metrics)
    assert (made.version, made.manifest.metrics) == ("9", shipped.manifest.metrics)
    assert made.manifest.files == shipped.manifest.files
    assert made.backbone_version == made.manifest.backbone_version == shipped.backbone_version
    assert made.embedder_version == made.manifest.embedder_version == shipped.embedder_version
    assert {file.name for file in made.path.iterdir()} == {*made.manifest.files, "manifest.json"}


def test_the_embeddings_change_by_the_rounding_of_the_features_only(early: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    before, after = (bundle.embedder().embed(pictures) for bundle in (Bundle.load(early), Bundle.load()))
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    assert ((before * after).sum(axis=1) / lengths).min() > 0.9999


def test_a_bundle_that_is_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a bundle with embedder\.onnx, found backbone\.onnx"):
        split_bundle(Bundle.load(), tmp_path / "out", version="9", metrics={})
    assert not (tmp_path / "out").exists()


def test_an_embedder_without_an_item_network_becomes_a_backbone(tmp_path: Path) -> None:
    embedder = onnx.load(str(write_early(Bundle.load(), tmp_path / "early", items=False) / "embedder.onnx"))
    backbone, items = split(embedder)
    assert items is None
    onnx.save(backbone, str(tmp_path / BACKBONE))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    (features,) = open_session(tmp_path / BACKBONE, 1).run(["features"], {"image": pictures})
    stored = Bundle.load().backbone().features(pictures)
    assert [quantize(one) for one in np.asarray(features)] == stored
