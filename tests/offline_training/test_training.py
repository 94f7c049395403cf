"""Training learns what can be learned, repeats itself, and does not let attention collapse."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from offline_training.aggregators.interface import Config  # noqa: E402
from offline_training.aggregators.paper import MaskedAverage, NeuralAggregationNetwork  # noqa: E402
from offline_training.training import Recipe, train  # noqa: E402
from offline_training.users import Pool, pad, simulate  # noqa: E402

CATEGORIES, SIZE = 6, 64

Kind = type[NeuralAggregationNetwork] | type[MaskedAverage]


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Categories that are easy to tell apart: each has its own direction."""
    rng = np.random.default_rng(0)
    rows = {category: np.arange(category * 80, category * 80 + 80) for category in range(CATEGORIES)}
    embeddings = rng.random((CATEGORIES * 80, SIZE)).astype(np.float32)
    for category, members in rows.items():
        embeddings[members, category * 8 : category * 8 + 8] += 4
    return Pool(embeddings, rows, {"one": list(rows)})


def trained(pool: Pool, kind: Kind) -> NeuralAggregationNetwork | MaskedAverage:
    torch.manual_seed(0)
    network = kind(Config(SIZE, CATEGORIES, input_scale=1 / 8))
    train(network, pool, Recipe(steps=120, batch=64), seed=3, advance=lambda _: None)
    return network


@pytest.mark.parametrize("kind", [NeuralAggregationNetwork, MaskedAverage])
def test_a_category_that_a_bag_shows_scores_higher_than_the_others(pool: Pool, kind: Kind) -> None:
    network = trained(pool, kind)
    for category, rows in pool.rows.items():
        logits, attention = network(torch.from_numpy(pool.embeddings[rows[None, :12]]), torch.zeros((1, 12)))
        assert int(logits.argmax()) == category
        assert float(attention.detach().max()) < 0.9


def test_the_same_seed_trains_the_same_network(pool: Pool) -> None:
    embeddings, log_prior, _ = (
        torch.from_numpy(part) for part in pad(pool, simulate(pool, 5, np.random.default_rng(9)), CATEGORIES)
    )
    first, second = (trained(pool, MaskedAverage)(embeddings, log_prior)[0] for _ in range(2))
    assert torch.allclose(first, second, atol=1e-4)
