"""The contract of the aggregator, on the shipped network: padding has no effect, batches equal single bags, weights are relative."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.aggregator import Aggregator
from model.bundle import Bundle
from model.scoring import ScoringBag, score_bags
from tests.bundles import write_trending

TOLERANCE = 1e-5
SIZE = Bundle.load().embedding_size


@pytest.fixture(scope="session")
def aggregator(bundle: Bundle) -> Aggregator:
    return bundle.aggregator()


def bag(size: int, seed: int = 0, d: int = SIZE) -> ScoringBag:
    rng = np.random.default_rng((size, seed))
    return ScoringBag(
        (rng.random((size, d)) ** 3 * 6).astype(np.float32),
        np.log(rng.choice([0.3, 0.6, 1.0], size)).astype(np.float32),
    )


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 64), min_size=1, max_size=6))
def test_a_batch_gives_the_same_scores_as_single_bags(aggregator: Aggregator, sizes: list[int]) -> None:
    bags = [bag(size, seed) for seed, size in enumerate(sizes)]
    for together, alone in zip(
        score_bags(aggregator, bags), [score_bags(aggregator, [b])[0] for b in bags], strict=True
    ):
        assert np.allclose(together.scores, alone.scores, atol=TOLERANCE)
        assert np.allclose(together.attention, alone.attention, atol=TOLERANCE)


def test_scores_are_probabilities_and_attention_sums_to_one(aggregator: Aggregator, bundle: Bundle) -> None:
    (scored,) = score_bags(aggregator, [bag(7)])
    assert scored.scores.shape == (len(bundle.categories),)
    assert scored.attention.shape == (7,)
    assert ((scored.scores >= 0) & (scored.scores <= 1)).all()
    assert scored.attention.sum() == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("garbage", [1e30, -1e30, np.inf, np.nan])
def test_values_at_padded_positions_have_no_effect(aggregator: Aggregator, garbage: float) -> None:
    embeddings, log_weight = (part[None] for part in bag(3)[:2])
    clean = aggregator.score(embeddings, log_weight)
    padded = aggregator.score(
        np.concatenate([embeddings, np.full((1, 5, SIZE), garbage, np.float32)], axis=1),
        np.concatenate([log_weight, np.full((1, 5), -np.inf, np.float32)], axis=1),
    )
    assert (padded.attention[0, 3:] == 0).all()
    assert np.allclose(padded.attention[0, :3], clean.attention[0], atol=TOLERANCE)
    assert np.allclose(padded.scores, clean.scores, atol=TOLERANCE)


def test_the_order_of_items_has_no_effect(aggregator: Aggregator) -> None:
    items = bag(9)
    order = np.random.default_rng(0).permutation(9)
    first, second = score_bags(aggregator, [items, ScoringBag(items.embeddings[order], items.log_weight[order])])
    assert np.allclose(first.scores, second.scores, atol=TOLERANCE)
    assert np.allclose(first.attention[order], second.attention, atol=TOLERANCE)


def test_log_weights_are_relative(aggregator: Aggregator) -> None:
    items = bag(4)
    same, shifted = score_bags(aggregator, [items, ScoringBag(items.embeddings, items.log_weight - 3)])
    assert np.allclose(same.scores, shifted.scores, atol=TOLERANCE)


def test_an_item_with_a_tiny_weight_has_no_effect(aggregator: Aggregator) -> None:
    items = bag(3)
    faded = ScoringBag(items.embeddings, np.array([0, 0, -40], np.float32))
    without, with_faded = score_bags(aggregator, [ScoringBag(items.embeddings[:2], np.zeros(2, np.float32)), faded])
    assert np.allclose(without.scores, with_faded.scores, atol=1e-4)


def test_no_bags_give_no_scores(aggregator: Aggregator) -> None:
    assert score_bags(aggregator, []) == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ScoringBag(np.zeros((0, SIZE), np.float32), np.zeros(0, np.float32)), "bag 1 of 2: .* found 0 and 0"),
        (ScoringBag(np.zeros((2, SIZE), np.float32), np.zeros(3, np.float32)), "bag 1 of 2: .* found 2 and 3"),
        (ScoringBag(np.zeros((1, SIZE), np.float32), np.full(1, -np.inf, np.float32)), "bag 1 of 2 has no item"),
    ],
)
def test_a_bag_that_cannot_be_scored_is_named(aggregator: Aggregator, broken: ScoringBag, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_bags(aggregator, [bag(2), broken])


def test_wrong_shapes_and_dtypes_are_refused_with_what_was_expected(aggregator: Aggregator) -> None:
    with pytest.raises(ValueError, match=rf"expected embeddings float32 \[1, 1, {SIZE}\], found float64"):
        aggregator.score(np.zeros((1, 1, SIZE)), np.zeros((1, 1), np.float32))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"expected log_weight float32 \[1, 2\]"):
        aggregator.score(np.zeros((1, 2, SIZE), np.float32), np.zeros((1, 3), np.float32))


def test_ages_and_trend_of_each_bag_stay_with_it_in_a_batch(tmp_path: Path) -> None:
    trending = Bundle.load(write_trending(tmp_path / "trending")).aggregator()
    assert trending.uses_trend
    rng = np.random.default_rng(5)
    bags = [
        bag(size)._replace(
            ages=rng.uniform(0, 9, size).astype(np.float32),
            trend=rng.uniform(0, 50, (3, trending.category_count)).astype(np.float32),
        )
        for size in (3, 1, 9)
    ]
    together, alone = score_bags(trending, bags), [score_bags(trending, [one])[0] for one in bags]
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.scores, other.scores, atol=TOLERANCE)
        assert np.allclose(one.attention, other.attention, atol=TOLERANCE)
    young = score_bags(trending, [bags[0]._replace(ages=None)])[0]
    assert not np.allclose(young.scores, alone[0].scores, atol=TOLERANCE)
    assert not np.allclose(score_bags(trending, [bags[0]._replace(trend=None)])[0].scores, alone[0].scores, atol=1e-4)
