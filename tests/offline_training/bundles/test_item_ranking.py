"""Training the ranking: choices that were drawn from known weights give these weights back."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from model.item_search.index import CodeIndex  # noqa: E402
from model.item_search.ranking import Taste, rank_items  # noqa: E402
from model.item_search.weights import DEFAULT, RankingWeights  # noqa: E402
from model.quantization import dequantize, quantize_all  # noqa: E402
from offline_training.bundles.item_ranking import (  # noqa: E402
    Asked,
    Known,
    Ranking,
    RankingRecipe,
    fit_ranking,
    sampled_loss,
)
from offline_training.tasks.item_methods import Catalogued  # noqa: E402
from offline_training.tasks.purchases import Contexts, make_taken  # noqa: E402

pytestmark = pytest.mark.training

ITEMS, USERS, SIZE, BAG, DAY = 150, 3000, 6, 3, 100
TRUE = RankingWeights(similarity=0.8, sharpness=8.0, floor=-4.0, categories=0.6, popularity=0.7, smoothing=1.0)


def shares(rows: Sequence[bytes]) -> np.ndarray:
    """Two categories, by the first number of the code."""
    first = 100 / (1 + np.exp(-3 * dequantize(rows, SIZE)[:, 0]))
    return np.stack([first, 100 - first], axis=1).astype(np.int64)


@pytest.fixture(scope="module")
def drawn() -> tuple[Known, Asked]:
    """A shop, and what its users chose by the true weights, each one item on the same day."""
    rng = np.random.default_rng(0)
    rows, index = quantize_all(rng.standard_normal((ITEMS, SIZE)).astype(np.float32)), CodeIndex(SIZE)
    index.put(np.arange(ITEMS), rows)
    items = Catalogued(rows, index, shares)
    sold = np.repeat(np.arange(ITEMS), rng.integers(0, 40, ITEMS) * (rng.random(ITEMS) < 0.7))
    taken = make_taken(
        [f"{number}" for number in range(len(sold))],
        user=np.arange(len(sold)),
        day=np.full(len(sold), DAY - 1),
        row=sold,
        weight=np.full(len(sold), 100),
        bought=np.ones(len(sold), bool),
        apart=np.zeros(len(sold), bool),
    )
    known = Known(taken, items, SIZE)
    bags = np.stack([rng.choice(ITEMS, BAG, replace=False) for _ in range(USERS)]).astype(np.int32)
    stored = dequantize(rows, SIZE)
    tastes = [
        Taste(stored[bag], rng.dirichlet(np.ones(BAG)).astype(np.float32), rng.dirichlet(np.ones(2)).astype(np.float32))
        for bag in bags
    ]
    popularity, chosen = known.counts.before(DAY, 28), np.empty(USERS, np.int32)
    for number, (bag, taste) in enumerate(zip(bags, tastes, strict=True)):
        left = np.setdiff1d(np.arange(ITEMS), bag)
        ranked = rank_items(taste, left, codes=items.codes, shares=shares, popularity=popularity, weights=TRUE)
        logits = np.array([item.score for item in ranked]) + rng.gumbel(size=len(ranked))
        chosen[number] = ranked[int(logits.argmax())].place
    contexts = Contexts(
        np.arange(USERS, dtype=np.int32),
        np.full(USERS, DAY, np.int32),
        np.arange(USERS + 1) * BAG,
        bags.ravel(),
        np.zeros(USERS * BAG, np.float32),
        np.zeros(USERS * BAG, np.float32),
        chosen,
        np.arange(USERS),
    )
    return known, Asked(contexts, tastes, np.arange(USERS))


def test_it_scores_as_the_ranking_that_is_served(drawn: tuple[Known, Asked]) -> None:
    known, asked = drawn
    places, numbers = np.arange(ITEMS), np.arange(5)
    with torch.inference_mode():
        found = Ranking(TRUE, categories=True)(asked, numbers, places, known).numpy()
    for number in numbers.tolist():
        ranked = rank_items(
            asked.tastes[number],
            places,
            codes=known.items.codes,
            shares=shares,
            popularity=known.counts.before(DAY, 28),
            weights=TRUE,
        )
        served = {item.place: item.score for item in ranked}
        np.testing.assert_allclose(found[number], [served[int(place)] for place in places], atol=1e-4)


def test_it_finds_the_weights_by_which_users_chose(drawn: tuple[Known, Asked]) -> None:
    known, asked = drawn
    recipe = RankingRecipe(epochs=12, drawn=120)
    ranking = Ranking(DEFAULT, categories=True)
    found = fit_ranking(ranking, asked, known, recipe, rng=np.random.default_rng(1), advance=lambda _: None)
    assert found.popularity == pytest.approx(TRUE.popularity, abs=0.12)
    assert found.categories == pytest.approx(TRUE.categories, abs=0.15)
    # these trade off against each other: what they say of an item that is equal to one of the bag, and of one that is like none
    assert found.similarity * found.floor == pytest.approx(TRUE.similarity * TRUE.floor, rel=0.35)
    assert losses(TRUE, drawn) == pytest.approx(losses(found, drawn), abs=0.01)
    assert losses(found, drawn) < losses(DEFAULT, drawn) - 0.02


def losses(weights: RankingWeights, drawn: tuple[Known, Asked]) -> float:
    known, asked = drawn
    rng = np.random.default_rng(2)
    with torch.inference_mode():
        ranking = Ranking(weights, categories=True)
        return float(sampled_loss(ranking, asked, asked.targets, known, drawn=2000, rng=rng))


def test_without_labels_the_categories_have_no_weight(drawn: tuple[Known, Asked]) -> None:
    known, asked = drawn
    ranking = Ranking(DEFAULT, categories=False)
    weights = fit_ranking(
        ranking, asked, known, RankingRecipe(epochs=1, batch=1000), rng=np.random.default_rng(1), advance=lambda _: None
    )
    assert weights.categories == 0
    assert all(math.isfinite(value) for value in (weights.similarity, weights.sharpness, weights.floor))
