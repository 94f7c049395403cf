"""Ranking items for a taste: the formula, what speaks for an item, diversity, and users without a bag."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.item_search.index import CodeIndex
from model.item_search.ranking import LITTLE, Options, RankedItem, Taste, rank_items, recommend_items
from model.item_search.weights import DEFAULT, RankingWeights
from model.quantization import dequantize, quantize_all

SIZE, CATEGORIES = 8, 3
WEIGHTS = RankingWeights(similarity=1.0, sharpness=10.0, floor=-6.0, categories=0.5, popularity=0.7, smoothing=0.5)


class Shop:
    """Items around three kinds: item i is of kind i % 3, and its place is i."""

    def __init__(self, count: int = 60) -> None:
        rng = np.random.default_rng(0)
        self.values = np.eye(CATEGORIES, SIZE, dtype=np.float32)[np.arange(count) % 3]
        self.values = (self.values + 0.15 * rng.standard_normal((count, SIZE))).astype(np.float32)
        self.rows = quantize_all(self.values)
        self.index = CodeIndex(SIZE)
        self.index.put(np.arange(count), self.rows)
        self.popularity = rng.integers(0, 20, count).astype(np.float32)
        self.mask = np.ones(count, bool)

    def codes(self, places: Sequence[int]) -> list[bytes]:
        return [self.rows[place] for place in places]

    def shares(self, rows: Sequence[bytes]) -> NDArray[np.int64]:
        """Hundredths of each kind, by the code."""
        return np.rint(100 * dequantize(rows, SIZE)[:, :CATEGORIES].clip(0, 1)).astype(np.int64)

    def recommend(self, taste: Taste, **options: float) -> list[RankedItem]:
        return recommend_items(
            taste,
            nearest=self.index.search,
            codes=self.codes,
            shares=self.shares,
            popularity=self.popularity,
            mask=self.mask,
            weights=WEIGHTS,
            options=Options(**options),  # type: ignore[arg-type]
        )

    def rank(self, taste: Taste, places: Sequence[int], **options: float) -> list[RankedItem]:
        return rank_items(
            taste,
            np.array(places, np.intp),
            codes=self.codes,
            shares=self.shares,
            popularity=self.popularity,
            weights=WEIGHTS,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def shop() -> Shop:
    return Shop()


def taste(shop: Shop, *items: int, scores: Sequence[float] = (0.5, 0.3, 0.2)) -> Taste:
    rows = dequantize(shop.codes(items), SIZE) if items else np.zeros((0, SIZE), np.float32)
    attention = np.full(len(items), 1 / max(len(items), 1), np.float32)
    return Taste(rows, attention, np.array(scores, np.float32))


def test_the_score_is_that_of_the_formula(shop: Shop) -> None:
    bag, place = (0, 1), 6
    shop.mask[[*bag]] = False
    own, *items = dequantize(shop.codes([place, *bag]), SIZE).astype(np.float64)
    cosines = [float(own @ item / np.linalg.norm(own) / np.linalg.norm(item)) for item in items]
    near = math.log(math.exp(-6) + sum(0.5 * math.exp(10 * (cosine - 1)) for cosine in cosines))
    share = shop.shares(shop.codes([place]))[0]
    category = math.log(float(share @ [0.5, 0.3, 0.2]) / share.sum() + LITTLE)
    expected = near + 0.5 * category + 0.7 * math.log(shop.popularity[place] + 0.5)
    [found] = shop.rank(taste(shop, *bag), [place])
    assert found == (place, pytest.approx(expected, abs=1e-5), 0)


def test_the_candidates_of_a_small_shop_are_everything_so_it_ranks_as_rank_items_does(shop: Shop) -> None:
    asked = taste(shop, 0, 1, 4)
    shop.mask[[0, 1, 4]] = False
    everything = shop.rank(asked, np.flatnonzero(shop.mask).tolist(), count=12)
    assert shop.recommend(asked) == everything
    assert len(everything) == 12
    assert [item.score for item in everything] == sorted((item.score for item in everything), reverse=True)


def test_each_interest_of_a_bag_is_answered(shop: Shop) -> None:
    shop.popularity[:] = 1
    kinds = {item.place % 3 for item in shop.recommend(taste(shop, 0, 1, scores=(1, 1, 1)), popular=0, nearest=4)}
    assert kinds == {0, 1}


def test_an_item_is_there_because_of_the_most_similar_item_of_the_bag(shop: Shop) -> None:
    found = shop.recommend(taste(shop, 0, 1), popular=0)
    assert all(item.because == item.place % 3 for item in found)


def test_an_item_that_is_like_nothing_in_the_bag_is_there_because_of_none(shop: Shop) -> None:
    [unlike] = shop.rank(taste(shop, 0, 1), [2])
    assert unlike.because is None
    asked = Taste(shop.values[:2], np.array([1, 0], np.float32), np.ones(3, np.float32))
    [like_what_does_not_count] = shop.rank(asked, [4])
    assert like_what_does_not_count.because is None


def test_a_user_without_a_bag_gets_what_is_popular_in_the_categories_of_the_prior(shop: Shop) -> None:
    shop.popularity[:] = 1
    shop.popularity[[5, 8]] = [50, 40]
    found = shop.recommend(taste(shop, scores=(0.01, 0.01, 0.98)))
    assert [item.place for item in found[:2]] == [5, 8]
    assert all(item.because is None and item.place % 3 == 2 for item in found)


def test_an_item_that_came_after_the_mask_was_made_is_not_recommended(shop: Shop) -> None:
    before = shop.recommend(taste(shop, 0, 1))
    shop.popularity = np.append(shop.popularity, np.float32(1000))
    assert shop.recommend(taste(shop, 0, 1)) == before


def test_a_category_that_is_wanted_more_raises_its_items(shop: Shop) -> None:
    shop.popularity[:] = 1
    for kind in range(3):
        scores = [0.02] * 3
        scores[kind] = 0.9
        assert {item.place % 3 for item in shop.recommend(taste(shop, scores=scores))} == {kind}


@pytest.mark.parametrize("diversity", [0.0, 0.5, 1.0])
def test_what_may_not_be_recommended_is_not(shop: Shop, diversity: float) -> None:
    shop.mask[::2] = False
    found = shop.recommend(taste(shop, 1, 3), diversity=diversity, count=60)
    assert all(item.place % 2 for item in found)
    assert len({item.place for item in found}) == len(found)
    shop.mask[:] = False
    assert shop.recommend(taste(shop, 1)) == []


def test_more_diversity_makes_the_items_less_alike(shop: Shop) -> None:
    def alike(diversity: float) -> float:
        places = [item.place for item in shop.recommend(taste(shop, 0), diversity=diversity, count=8)]
        units = shop.values[places] / np.linalg.norm(shop.values[places], axis=1, keepdims=True)
        return float((units @ units.T).mean())

    assert alike(0.0) > alike(0.7) > alike(1.0)


def test_the_first_item_is_the_best_whatever_the_diversity(shop: Shop) -> None:
    best = shop.recommend(taste(shop, 0))[0]
    assert all(shop.recommend(taste(shop, 0), diversity=share)[0] == best for share in (0.3, 0.9))


def test_diversity_is_maximal_marginal_relevance(shop: Shop) -> None:
    asked, count, share = taste(shop, 0, 1), 5, 0.4
    ranked = shop.rank(asked, range(60))[: 4 * count]
    units = {item.place: shop.values[item.place] / np.linalg.norm(shop.values[item.place]) for item in ranked}
    low, high = ranked[-1].score, ranked[0].score
    expected: list[int] = []
    while len(expected) < count:
        left = [item for item in ranked if item.place not in expected]
        value = {
            item.place: (1 - share) * (item.score - low) / (high - low)
            - share * max((float(units[item.place] @ units[other]) for other in expected), default=0)
            for item in left
        }
        expected.append(max(value, key=lambda place: value[place]))
    assert [item.place for item in shop.rank(asked, range(60), count=count, diversity=share)] == expected


def test_equal_items_come_in_the_order_of_their_places(shop: Shop) -> None:
    shop.rows[30] = shop.rows[31] = shop.rows[3]
    shop.popularity[[3, 30, 31]] = 7
    places = [item.place for item in shop.rank(taste(shop, 0), [31, 3, 30])]
    assert places == [3, 30, 31]


def test_without_shares_the_categories_do_not_count(shop: Shop) -> None:
    def scores(of: Sequence[float]) -> list[RankedItem]:
        return recommend_items(
            taste(shop, 0, scores=of),
            nearest=shop.index.search,
            codes=shop.codes,
            shares=None,
            popularity=shop.popularity,
            mask=shop.mask,
        )

    assert scores([0.9, 0.1, 0.1]) == scores([0.1, 0.1, 0.9])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 59), max_size=10, unique=True),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_any_taste_is_answered(bag: list[int], count: int, diversity: float, seed: int) -> None:
    shop, rng = Shop(), np.random.default_rng(seed)
    shop.mask = rng.random(60) < rng.random()
    rows = shop.values[bag].reshape(-1, SIZE)
    asked = Taste(rows, rng.random(len(bag)).astype(np.float32), rng.random(3).astype(np.float32))
    found = shop.recommend(asked, count=count, diversity=diversity)
    assert len(found) == min(count, int(shop.mask.sum()))
    assert all(shop.mask[item.place] and math.isfinite(item.score) for item in found)
    assert all(item.because is None or 0 <= item.because < len(bag) for item in found)
    assert found == shop.recommend(asked, count=count, diversity=diversity)
    assert DEFAULT.sharpness > 0
