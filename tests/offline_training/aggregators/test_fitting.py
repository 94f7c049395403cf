"""Training on bags drawn for each epoch learns the categories, is repeatable, and does not collapse attention."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from torch import Tensor, nn  # noqa: E402

from offline_training.aggregators import AGGREGATORS  # noqa: E402
from offline_training.aggregators.fitting import LINEAR, fit, predict  # noqa: E402
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
    fit(network, embeddings, split, replace(LINEAR, drawn=11, settling=3), seed=3)
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
