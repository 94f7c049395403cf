"""What the frozen blocks make of a picture is computed once, kept, and goes on where it was interrupted."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor  # noqa: E402

from model.exceptions import TastestreamError  # noqa: E402
from offline_training.embedders import views  # noqa: E402
from offline_training.embedders.labelled import read_labelled  # noqa: E402
from offline_training.embedders.views import Kept, Pixels, keep_activations  # noqa: E402
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


def keep(pixels: Pixels, folder: Path, seed: int = 0, stop_after: int = 1000) -> Kept:
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished
        finished += count
        if finished >= stop_after:
            raise KeyboardInterrupt

    return keep_activations(pixels, VIEWS, small.backbone(seed), CUT, folder=folder, advance=advance)


def test_view_0_is_what_serving_sees_and_the_others_are_other_views_the_same_each_time(pixels: Pixels) -> None:
    first, again, other = (pixels.rows(np.array([3, 3]), np.array(numbers)) for numbers in ([0, 1], [0, 1], [0, 2]))
    assert torch.equal(first, again) and torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1]) and not torch.equal(first[0], first[1])


def test_kept_activations_are_those_of_the_view(pixels: Pixels, tmp_path: Path) -> None:
    pictures, numbers = np.array([0, 5, 11]), np.array([2, 0, 1])
    kept = keep(pixels, tmp_path / "work").rows(pictures, numbers)
    with torch.inference_mode():
        expected = small.backbone().before(pixels.rows(pictures, numbers), CUT)
    assert kept.dtype == torch.float32 and torch.allclose(kept, expected, rtol=2e-3, atol=1e-4)


def test_they_are_computed_once_for_pictures_and_weights(pixels: Pixels, tmp_path: Path) -> None:
    first, second, others = counted(pixels), counted(pixels), counted(pixels)
    kept = keep(first, tmp_path / "work")
    assert first.decoded == 12 * VIEWS
    assert np.array_equal(keep(second, tmp_path / "work").activations, kept.activations) and second.decoded == 0
    keep(others, tmp_path / "work", seed=1)
    assert others.decoded == 12 * VIEWS


def test_an_interrupted_computation_goes_on(pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "BATCH", 8)
    whole = keep(pixels, tmp_path / "whole").activations
    with pytest.raises(KeyboardInterrupt):
        keep(pixels, tmp_path / "work", stop_after=16)
    rest = counted(pixels)
    assert np.array_equal(keep(rest, tmp_path / "work").activations, whole)
    assert rest.decoded == 12 * VIEWS - 8  # the batch whose end was not written down is computed again


def test_a_picture_that_cannot_be_read_is_named(pixels: Pixels, tmp_path: Path) -> None:
    pixels.pictures[4].path.write_bytes(b"not a picture")
    with pytest.raises(TastestreamError, match=str(pixels.pictures[4].path)):
        keep(pixels, tmp_path / "work")
