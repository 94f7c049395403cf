"""Activations of frozen blocks are computed once and cached. An interrupted computation resumes."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor  # noqa: E402

from model.exceptions import TastestreamError  # noqa: E402
from offline_training.embedders.training_data import views  # noqa: E402
from offline_training.embedders.training_data.labelled import read_labelled  # noqa: E402
from offline_training.embedders.training_data.views import CachedActivations, Pixels, cached_activations  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

VIEWS, CUT = 3, 2


@pytest.fixture
def pixels(tmp_path: Path) -> Pixels:
    counts = dict.fromkeys(small.COLOURS, 4)
    folder = small.photos(tmp_path / "photos", {"train": counts, "val": counts, "test": counts})
    return Pixels([one for one in read_labelled(folder) if one.split == "train"], small.SIZE, seed=7)


class Counted(Pixels):
    """Counts the views that were decoded."""

    decoded = 0

    def rows(self, pictures: np.ndarray, views: np.ndarray) -> Tensor:
        self.decoded += len(pictures)
        return super().rows(pictures, views)


def counted(pixels: Pixels) -> Counted:
    return Counted(pixels.pictures, pixels.size, pixels.seed)


def cached(pixels: Pixels, folder: Path, seed: int = 0, stop_after: int = 1000) -> CachedActivations:
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished
        finished += count
        if finished >= stop_after:
            raise KeyboardInterrupt

    return cached_activations(pixels, VIEWS, small.backbone(seed), CUT, folder=folder, advance=advance)


def test_view_0_is_the_picture_and_each_other_view_is_different_but_repeatable(pixels: Pixels) -> None:
    first, again, other = (pixels.rows(np.array([3, 3]), np.array(numbers)) for numbers in ([0, 1], [0, 1], [0, 2]))
    assert torch.equal(first, again) and torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1]) and not torch.equal(first[0], first[1])


def test_cached_activations_equal_those_of_the_view(pixels: Pixels, tmp_path: Path) -> None:
    pictures, numbers = np.array([0, 5, 11]), np.array([2, 0, 1])
    found = cached(pixels, tmp_path / "work").rows(pictures, numbers)
    with torch.inference_mode():
        expected = small.backbone().before(pixels.rows(pictures, numbers), CUT)
    assert found.dtype == torch.float32 and torch.allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_activations_are_computed_once_for_the_same_pictures_and_weights(pixels: Pixels, tmp_path: Path) -> None:
    first, second, others = counted(pixels), counted(pixels), counted(pixels)
    found = cached(first, tmp_path / "work")
    assert first.decoded == 12 * VIEWS
    assert np.array_equal(cached(second, tmp_path / "work").activations, found.activations) and second.decoded == 0
    cached(others, tmp_path / "work", seed=1)
    assert others.decoded == 12 * VIEWS


def test_an_interrupted_computation_resumes(pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "BATCH", 8)
    whole = cached(pixels, tmp_path / "whole").activations
    with pytest.raises(KeyboardInterrupt):
        cached(pixels, tmp_path / "work", stop_after=16)
    rest = counted(pixels)
    assert np.array_equal(cached(rest, tmp_path / "work").activations, whole)
    assert rest.decoded == 12 * VIEWS - 8  # the batch without a record of its end is computed again


def test_an_unreadable_picture_is_named(pixels: Pixels, tmp_path: Path) -> None:
    pixels.pictures[4].path.write_bytes(b"not a picture")
    with pytest.raises(TastestreamError, match=str(pixels.pictures[4].path)):
        cached(pixels, tmp_path / "work")
