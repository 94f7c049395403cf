"""Each method finds the map that it can express, on pictures that it has not seen."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from model.bundle.onnx_check import check_network  # noqa: E402
from model.sessions import open_session  # noqa: E402
from offline_training.adapters.fitting import METHODS, Pairs, affine, apply, residual, rotation  # noqa: E402
from offline_training.exporting.export import export_adapter  # noqa: E402

Matrix = NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pairs(old: Matrix, new: NDArray[np.floating]) -> Pairs:
    return Pairs(old, new.astype(np.float32), np.arange(len(old)))


def turn(size: int) -> Matrix:
    return np.linalg.qr(random(size, size, seed=9))[0].astype(np.float32)


def test_a_rotation_with_scale_and_shift_is_found() -> None:
    old, seen = random(60, 8), slice(40)
    new = 2.5 * old @ turn(8) + 7
    found = apply(rotation(pairs(old[seen], new[seen])), old)
    assert np.allclose(found, new, atol=1e-4)


def test_a_rotation_into_more_numbers_is_found() -> None:
    old = random(60, 5) - 3
    new = 0.5 * old @ turn(8)[:5] + 1
    found = apply(rotation(pairs(old[:40], new[:40])), old)
    assert np.allclose(found, new, atol=1e-4)


def test_a_rotation_keeps_angles_whatever_it_is_fitted_on() -> None:
    old = random(200, 6)
    matrix = rotation(pairs(old, old @ random(6, 6, seed=3))).weight.numpy()
    square = matrix @ matrix.T
    assert np.allclose(square, square[0, 0] * np.eye(6), atol=1e-5)


@pytest.mark.parametrize("method", ["affine", "residual"])
@pytest.mark.parametrize(("before", "after"), [(8, 8), (5, 12), (12, 5)])
def test_an_affine_map_is_found(method: str, before: int, after: int) -> None:
    old = 3 * random(300, before) + 1
    new = old @ random(before, after, seed=4) - 2
    found = apply(METHODS[method](pairs(old[:200], new[:200])), old[200:])
    assert np.square(found - new[200:]).mean() < 1e-3 * new.var()


def test_of_few_noisy_pictures_less_is_believed_than_least_squares_does() -> None:
    old = random(660, 40)
    truth = old[:, :1] @ random(1, 4, seed=5)
    new = truth + 3 * random(660, 4, seed=6)
    few = pairs(old[:60], new[:60])
    matrix, *_ = np.linalg.lstsq(few.old - few.old.mean(0), few.new - few.new.mean(0), rcond=None)
    least_squares = (old[60:] - few.old.mean(0)) @ matrix + few.new.mean(0)
    error = np.square(apply(affine(few), old[60:]) - truth[60:]).mean()
    assert error < 0.6 * np.square(least_squares - truth[60:]).mean()


def test_variants_of_a_product_are_held_out_together() -> None:
    """Every product has four pictures that are nearly equal, so an old picture of it would tell all."""
    products = np.repeat(np.arange(25), 4)
    old = (random(25, 40)[products] + 1e-3 * random(100, 40, seed=7)).astype(np.float32)
    new = random(25, 4, seed=8)[products]  # nothing to learn
    together = apply(affine(Pairs(old, new, products)), random(50, 40, seed=11))
    apart = apply(affine(pairs(old, new)), random(50, 40, seed=11))
    assert np.square(together - new.mean(0)).mean() < 0.5 * np.square(apart - new.mean(0)).mean()


def test_the_residual_network_learns_what_no_affine_map_can() -> None:
    old = random(1500, 4)
    new = np.abs(old) @ random(4, 4, seed=2)
    errors = [
        np.square(apply(fit(pairs(old[:1000], new[:1000])), old[1000:]) - new[1000:]).mean()
        for fit in (affine, residual)
    ]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "few",
    [
        pairs(np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)),
        pairs(random(2, 3), random(2, 2)),
        Pairs(random(4, 3), random(4, 2), np.zeros(4, np.int64)),
        pairs(random(4, 30), random(4, 2)),
    ],
    ids=["all equal", "two pictures", "one product", "more numbers than pictures"],
)
def test_with_little_to_learn_from_the_map_is_finite(method: str, few: Pairs) -> None:
    found = apply(METHODS[method](few), random(9, few.old.shape[1], seed=1))
    assert found.shape == (9, 2)
    assert np.abs(found).max() < 100


@pytest.mark.parametrize("method", METHODS)
def test_the_same_pictures_give_the_same_map_and_leave_chance_as_it_was(method: str) -> None:
    old, new = random(50, 6), random(50, 4, seed=1)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = apply(METHODS[method](pairs(old, new)), old)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(first, apply(METHODS[method](pairs(old, new)), old))


@pytest.mark.parametrize("method", METHODS)
def test_the_file_computes_what_was_fitted(method: str, tmp_path: Path) -> None:
    network = METHODS[method](pairs(random(50, 6), random(50, 4, seed=1)))
    old = random(7, 6, seed=5)
    expected = apply(network, old)
    export_adapter(network, 6, tmp_path / "adapter.onnx")
    check_network((tmp_path / "adapter.onnx").read_bytes())
    [found] = open_session(tmp_path / "adapter.onnx", 1).run(["adapted"], {"embedding": old})
    assert np.allclose(np.asarray(found), expected, atol=1e-5)
