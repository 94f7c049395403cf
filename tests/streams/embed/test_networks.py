"""Bundles share what they have in common, and the codes are those of their embedders."""

from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from model.embedder import Backbone, ItemCoder
from model.quantization import quantize, quantize_all
from streams.bundles import Bundles
from streams.embed.networks import open_networks
from tests.bundles import write_sibling
from tests.model.bundle.early import write_early
from tests.model.bundle.networks import write_colours
from tests.streams.warm.test_warm import another_bundle

PICTURES = list(np.random.default_rng(1).integers(0, 255, (3, 224, 224, 3), np.uint8))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def test_the_codes_are_the_quantized_embeddings_of_each_bundle(bundle: Bundle, tmp_path: Path) -> None:
    colours = write_colours(tmp_path / "colours")
    networks = open_networks(Bundles(bundle, colours), 1)
    rows = {one.version: one.run(PICTURES) for one in networks.pictures}
    for one, coder in zip((bundle, colours), networks.coders, strict=True):
        assert coder.run is not None
        codes = coder.run(rows[coder.features])
        assert codes == quantize_all(one.embedder().embed(np.stack(PICTURES)))
        assert {len(code) for code in codes} == {coder.code_bytes}
    assert {version: {len(row) for row in found} for version, found in rows.items()} == {
        version: {length} for version, length in networks.row_bytes.items()
    }


def test_bundles_with_one_backbone_run_it_once(bundle: Bundle, tmp_path: Path) -> None:
    following = Bundle.load(another_bundle(tmp_path / "next", "items.onnx"))
    networks = open_networks(Bundles(bundle, following), 1)
    assert [one.version for one in networks.pictures] == [bundle.backbone_version]
    assert [one.embedder_version for one in networks.coders] == [bundle.embedder_version, following.embedder_version]


def test_bundles_with_one_embedder_make_one_code(bundle: Bundle, tmp_path: Path) -> None:
    following = Bundle.load(another_bundle(tmp_path / "next", "aggregator.onnx"))
    networks = open_networks(Bundles(bundle, following), 1)
    assert [one.embedder_version for one in networks.coders] == [bundle.embedder_version]


@pytest.mark.parametrize("served_is_early", [True, False])
def test_the_features_of_an_early_bundle_are_its_codes(bundle: Bundle, tmp_path: Path, served_is_early: bool) -> None:
    early = Bundle.load(write_early(bundle, tmp_path / "early"))
    bundles = Bundles(early, bundle) if served_is_early else Bundles(bundle, early)
    networks = open_networks(bundles, 1)
    assert len(networks.pictures) == len(networks.coders) == 2
    [coder] = [one for one in networks.coders if one.embedder_version == early.embedder_version]
    [network] = [one for one in networks.pictures if one.version == early.embedder_version]
    assert coder.run is None
    assert network.run(PICTURES[:1]) == [quantize(early.embedder().embed(np.stack(PICTURES[:1]))[0])]


@pytest.mark.parametrize("which", ["colours", "sibling"])
def test_a_network_of_the_next_bundle_that_fails_makes_nothing_and_is_logged_once(
    bundle: Bundle, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its pictures' network where it has one of its own, else its item network. Those of the served bundle raise."""
    folder = tmp_path / which
    following = write_colours(folder) if which == "colours" else Bundle.load(write_sibling(folder))
    owner = Backbone if which == "colours" else ItemCoder
    method = "features" if which == "colours" else "embed"

    def fails(*_: object) -> None:
        raise RuntimeError("no such node")

    monkeypatch.setattr(owner, method, fails)
    networks = open_networks(Bundles(bundle, following), 1)
    served, tried = (networks.pictures if which == "colours" else networks.coders)[:2]
    given = PICTURES if which == "colours" else [bytes(networks.pictures[0].row_bytes)] * 3
    assert served.run
    assert tried.run
    with pytest.raises(RuntimeError):
        served.run(given)  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        assert tried.run(given) == [b""] * 3  # pyright: ignore[reportArgumentType]
    [line] = [one.getMessage() for one in caplog.records]
    assert line.startswith("a network of NEXT_BUNDLE fails")
