"""Codes of the next bundle, from features and from the codes of another embedder."""

from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from model.quantization import dequantize, is_finite, quantize, quantize_all
from streams.features.records import features_version
from streams.rollout.coder import Coder
from tests.model.bundle.adapted import OLD, OLD_SIZE, put_adapter
from tests.model.bundle.early import write_early
from tests.model.bundle.networks import write_colours


@pytest.fixture
def colours(tmp_path: Path) -> Bundle:
    return write_colours(tmp_path / "colours")


def row(*values: float) -> bytes:
    return quantize(np.array(values, np.float32))


def test_a_code_from_features_is_that_of_the_embedder(colours: Bundle) -> None:
    features = [row(1, 2, 3), row(4, 5, 7)]
    coder = Coder(colours)
    assert coder.of_features(features) == quantize_all(colours.split_embedder().of_features(features))
    assert (coder.version, coder.features_version) == (colours.embedder_version, features_version(colours))


def test_features_of_another_size_or_without_numbers_do_not_fit(colours: Bundle) -> None:
    coder = Coder(colours)
    assert coder.fits(row(1, 2, 3))
    assert not coder.fits(row(1, 2, 3, 4))
    assert not coder.fits(b"")
    assert not coder.fits(quantize_all(np.full((1, 3), np.nan, np.float32))[0])


def test_the_features_of_an_early_bundle_are_its_codes(tmp_path: Path) -> None:
    early = Bundle.load(write_early(Bundle.load(), tmp_path / "early"))
    coder, code = Coder(early), quantize(np.random.default_rng(0).random(early.embedding_size, np.float32))
    assert coder.fits(code)
    assert coder.of_features([code]) == [code]
    assert coder.features_version == early.embedder_version


def test_a_code_is_adapted_from_the_embedder_that_the_bundle_has_an_adapter_for(colours: Bundle) -> None:
    coder = Coder(put_adapter(colours.path))
    old = row(*range(OLD_SIZE))
    assert coder.adapts(OLD)
    made = coder.adapted(OLD, old)
    assert made is not None
    assert dequantize([made], 3)[0] == pytest.approx([10, 10, 10], abs=0.05)
    assert not coder.adapts("f" * 12)
    assert coder.adapted("f" * 12, old) is None


def test_a_code_of_a_wrong_length_or_without_numbers_is_not_adapted(colours: Bundle) -> None:
    coder = Coder(put_adapter(colours.path))
    assert coder.adapted(OLD, row(1, 2)) is None
    assert coder.adapted(OLD, b"") is None
    broken = quantize_all(np.full((1, OLD_SIZE), np.nan, np.float32))[0]
    assert not is_finite(broken)
    assert coder.adapted(OLD, broken) is None


def test_a_bundle_without_an_adapter_adapts_nothing(colours: Bundle) -> None:
    coder = Coder(colours)
    assert not coder.adapts(OLD)
    assert coder.adapted(OLD, row(*range(OLD_SIZE))) is None
