"""Training learns the categories, however few users there are, is repeatable, and does not collapse attention."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from offline_training.aggregators import AGGREGATORS  # noqa: E402
from offline_training.aggregators.fitting import EVALUATIONS, LINEAR, Curve, FitRecipe, fit, predict  # noqa: E402
from offline_training.aggregators.interface import Config  # noqa: E402
from offline_training.bundles.simulated_users import Pool, of_one_category, simulate  # noqa: E402
from offline_training.tasks.split import Split  # noqa: E402

CATEGORIES, SIZE = 6, 64


@pytest.fixture(scope="module")
def pool() -> Pool:
    rows = {category: np.arange(category * 80, category * 80 + 80) for category in range(CATEGORIES)}
    return Pool(rows, {"one": list(rows)}, CATEGORIES)


@pytest.fixture(scope="module")
def embeddings(pool: Pool) -> Tensor:
    """Categories that are easy to separate: each has its own direction."""
    made = np.random.default_rng(0).random((CATEGORIES * 80, SIZE)).astype(np.float32)
    for category, members in pool.rows.items():
        made[members, category * 8 : category * 8 + 8] += 4
    return torch.from_numpy(made)


def trained(pool: Pool, embeddings: Tensor, kind: str) -> nn.Module:
    drawn: list[int] = []

    def draw(rng: np.random.Generator):
        drawn.append(len(drawn))
        return simulate(pool, 640, rng)

    first = simulate(pool, 640, np.random.default_rng(0))
    split = Split(
        first, simulate(pool, 100, np.random.default_rng(1)), first, np.zeros(0, bool), np.zeros(0, np.int64), draw
    )
    torch.manual_seed(0)
    network = AGGREGATORS[kind](Config(SIZE, CATEGORIES, input_scale=1 / 8), None)
    fit(network, embeddings, split, replace(LINEAR, drawn=11, settling=3, min_steps=0, enough_steps=0), seed=3)
    assert len(drawn) == 11
    return network


@pytest.fixture(scope="module")
def average(pool: Pool, embeddings: Tensor) -> nn.Module:
    return trained(pool, embeddings, "average")


@pytest.mark.parametrize("kind", ["nan+cg", "average"])
def test_the_category_in_a_bag_scores_highest(pool: Pool, embeddings: Tensor, average: nn.Module, kind: str) -> None:
    network = average if kind == "average" else trained(pool, embeddings, kind)
    bags = of_one_category(pool, 12)
    assert (predict(network, embeddings, bags).argmax(1) == bags.targets.argmax(1)).all()
    _, attention = network(embeddings[bags.rows[::40].astype(np.int64)], torch.zeros(len(bags.rows[::40]), 12))
    assert float(attention.detach().max()) < 0.9


def test_the_same_seed_trains_the_same_network(pool: Pool, embeddings: Tensor, average: nn.Module) -> None:
    users = simulate(pool, 5, np.random.default_rng(9))
    networks = average, trained(pool, embeddings, "average")
    first, second = (predict(network, embeddings, users) for network in networks)
    assert np.allclose(first, second, atol=1e-4)


def few(pool: Pool, count: int, validation: int = 60) -> Split:
    """A split of few users, as of a small shop: an epoch is a step or two."""
    users, validating = (
        simulate(pool, number, np.random.default_rng(seed), max_bag=5)
        for seed, number in enumerate([count, validation])
    )
    return Split(users, validating, users, np.zeros(0, bool), np.zeros(0, np.int64))


def fitted(pool: Pool, embeddings: Tensor, split: Split, recipe: FitRecipe) -> tuple[nn.Module, Curve]:
    torch.manual_seed(0)
    network = AGGREGATORS["average"](Config(SIZE, CATEGORIES, input_scale=1 / 32), None)
    return network, fit(network, embeddings, split, recipe, seed=0)


@pytest.mark.slow
def test_of_few_users_the_training_is_as_long_as_its_validation_asks_for(pool: Pool, embeddings: Tensor) -> None:
    split = few(pool, 260)
    torch.manual_seed(0)
    embeddings = embeddings + 3 * torch.randn_like(embeddings)
    _, epochs = fitted(pool, embeddings, split, replace(LINEAR, min_steps=0, enough_steps=0))
    network, converged = fitted(pool, embeddings, split, LINEAR)
    assert epochs.steps == 28
    assert converged.steps >= 200
    assert converged.converged
    assert converged.best < 0.8 * epochs.best
    assert converged.best == pytest.approx(loss_of(network, embeddings, split), rel=1e-4), "the kept state is returned"
    assert len(converged.validation) <= EVALUATIONS


@pytest.mark.parametrize("users", [12, 40])
def test_even_a_dozen_users_get_the_least_number_of_steps(pool: Pool, embeddings: Tensor, users: int) -> None:
    _, curve = fitted(pool, embeddings, few(pool, users, validation=4), replace(LINEAR, max_steps=400))
    assert curve.steps >= LINEAR.min_steps
    assert 0 < curve.kept_step <= curve.steps


def test_of_many_users_the_epochs_are_those_of_the_recipe(pool: Pool, embeddings: Tensor) -> None:
    _, curve = fitted(pool, embeddings, few(pool, 1024), replace(LINEAR, epochs=10, batch=16))
    assert (curve.steps, len(curve.validation)) == (640, 10)


def test_a_training_that_is_cut_while_the_loss_falls_says_so(pool: Pool, embeddings: Tensor) -> None:
    slow = replace(LINEAR, rates={}, rate=3e-3, max_steps=200)
    _, curve = fitted(pool, embeddings, few(pool, 260), slow)
    assert (curve.steps, curve.converged) == (200, False)
    many = replace(slow, batch=16, epochs=30, warm_up=0.9)
    _, curve = fitted(pool, embeddings, few(pool, 260), many)
    assert (curve.steps, curve.kept_step, curve.converged) == (510, 510, False)


def loss_of(network: nn.Module, embeddings: Tensor, split: Split) -> float:
    scores = torch.from_numpy(predict(network, embeddings, split.validation)).double().clamp(1e-12, 1 - 1e-7)
    targets = torch.from_numpy(split.validation.targets).double()
    return float(functional.binary_cross_entropy(scores, targets, reduction="none").sum(1).mean())
