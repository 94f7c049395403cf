"""Why a category or an item is recommended: equal to what the recommender answers for bags without the items."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.aggregator import Scored
from model.bundle import Bundle
from model.quantization import dequantize, quantize
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.serve.explanation import (
    EXHAUSTIVE,
    ROWS,
    Explanation,
    Target,
    UnknownCategory,
    _Measured,
    _smallest,
    explain,
    raisers,
    without_item,
)
from streams.trend.trend import WHOLE_ITEM, Trend
from tests.bundles import write_trending

DAY = 86_400_000
TODAY = 16_000
NOON = TODAY * DAY + DAY // 2
WEIGHTS = {"purchase": 1.0, "cart": 0.6, "view": 0.3}
KINDS = sorted(WEIGHTS)


class Shop:
    """A recommender that names the scores of all categories, and its trend."""

    def __init__(self, bundle: Bundle, *, bag_size: int = 64, weights: dict[str, float] | None = None) -> None:
        self.bundle = bundle
        size = len(bundle.categories)
        rng = np.random.default_rng(4)
        self.trend = Trend(7, {TODAY - day: rng.integers(0, 90 * WHOLE_ITEM, size) for day in range(3)}, size)
        options = ScoringOptions(bag_size, top_k=1000, type_weights=weights or WEIGHTS, half_life=86_400.0)
        self.recommender = Recommender(bundle, bundle.aggregator(), options)

    def code(self, number: int) -> bytes:
        return quantize(np.random.default_rng(number).normal(size=self.bundle.embedding_size).astype(np.float32))

    def bag(self, numbers: list[int], without: tuple[int, ...] = ()) -> Bag:
        bag = Bag()
        for place, number in enumerate(numbers):
            if place not in without:
                event = EmbeddedInteraction(
                    event_id=f"e{place}", user_id="ada", item_id=f"item-{place}", type=KINDS[number % 3],  # type: ignore[arg-type]
                    timestamp=NOON - place * DAY // 2, embedder_version=self.bundle.embedder_version, embedding=self.code(number),
                )  # fmt: skip
                bag = fold(bag, event, max_slots=128, kept={self.bundle.embedder_version})
        return bag

    def scores(self, bag: Bag) -> dict[str, float]:
        """The scores of all categories, best first."""
        [answer] = self.recommender.answers([(bag, NOON)], self.trend)
        return {one.category: one.score for one in answer.categories}

    def explain(self, bag: Bag, target: Target) -> Explanation:
        return explain(self.recommender, bag, NOON, self.trend, target)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shop]:
    trending = Bundle.load(write_trending(tmp_path_factory.mktemp("bundles") / "trending"))
    return {"shipped": Shop(Bundle.load()), "trending": Shop(trending)}


numbers = st.lists(st.integers(0, 40), min_size=1, max_size=6)
each = pytest.mark.parametrize("name", ["shipped", "trending"])


@each
@given(numbers=numbers, rank=st.integers(0, 95))
@settings(max_examples=25, deadline=None)
def test_an_item_raises_a_category_by_what_the_answer_without_it_lacks(
    shops: dict[str, Shop], name: str, numbers: list[int], rank: int
) -> None:
    shop = shops[name]
    scores = shop.scores(shop.bag(numbers))
    category = list(scores)[rank]
    found = shop.explain(shop.bag(numbers), Target(category))
    assert found.score == pytest.approx(scores[category], abs=2e-6)
    assert {one.item_id for one in found.items} == {f"item-{place}" for place in range(len(numbers))}
    raises = {one.item_id: one.raises for one in found.items}
    for place in range(len(numbers)):
        without = shop.scores(shop.bag(numbers, without=(place,)))[category]
        assert raises[f"item-{place}"] == pytest.approx(scores[category] - without, abs=4e-6)
    assert [one.raises for one in found.items] == sorted((one.raises for one in found.items), reverse=True)


@each
@given(numbers=numbers, rank=st.integers(0, 95))
@example(numbers=[0], rank=62)  # with the shipped bundle, the next category has the same score
@settings(max_examples=25, deadline=None)
def test_a_smaller_set_than_an_exact_one_lets_no_category_overtake(
    shops: dict[str, Shop], name: str, numbers: list[int], rank: int
) -> None:
    shop = shops[name]
    scores = shop.scores(shop.bag(numbers))
    names = list(scores)
    category, below = names[rank], names[rank + 1 :]

    def lead(places: tuple[int, ...]) -> float:
        left = shop.scores(shop.bag(numbers, without=places))
        return left[category] - max((left[other] for other in below), default=-1.0)

    found = shop.explain(shop.bag(numbers), Target(category))
    size = len(numbers) + 1
    if found.smallest_set is not None:
        size = len(found.smallest_set)
        assert lead(tuple(int(one.removeprefix("item-")) for one in found.smallest_set)) <= 2e-6
    if found.exact:
        smaller = [places for count in range(1, size) for places in combinations(range(len(numbers)), count)]
        assert all(lead(places) > -2e-6 for places in smaller)
    assert found.exact or size > EXHAUSTIVE


@each
@given(numbers=numbers, wanted=st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_the_affinity_of_an_item_is_the_cosine_weighted_by_attention(
    shops: dict[str, Shop], name: str, numbers: list[int], wanted: int
) -> None:
    shop = shops[name]
    [vector] = dequantize([shop.code(wanted)], shop.bundle.embedding_size)

    def affinity(without: tuple[int, ...] = ()) -> float:
        [answer] = shop.recommender.answers([(shop.bag(numbers, without=without), NOON)], shop.trend)
        codes = {item.item_id: dequantize([item.embedding], len(vector))[0] for item in answer.items}
        return sum(
            one.weight
            * float(codes[one.item_id] @ vector / np.linalg.norm(codes[one.item_id]) / np.linalg.norm(vector))
            for one in answer.attention
        )

    found = shop.explain(shop.bag(numbers), Target(item_code=shop.code(wanted)))
    assert found.score == pytest.approx(affinity(), abs=5e-6)
    for one in found.items:
        without = affinity((int(one.item_id.removeprefix("item-")),))
        assert one.raises == pytest.approx(affinity() - without, abs=1e-5)


@each
def test_the_items_that_raise_each_category_are_those_of_its_explanation(shops: dict[str, Shop], name: str) -> None:
    shop = shops[name]
    bag = shop.bag([3, 1, 4, 15, 9])
    names = list(shop.scores(bag))[:6]
    found = raisers(shop.recommender, bag, NOON, shop.trend, categories=names, most=3)
    for category in names:
        explained = shop.explain(bag, Target(category)).items[:3]
        assert found[category] == [one for one in explained if one.raises > 0]
    assert raisers(shop.recommender, Bag(), NOON, shop.trend, categories=names, most=3) == {one: [] for one in names}


def test_only_the_items_that_are_scored_are_explained() -> None:
    shop = Shop(Bundle.load(), bag_size=3, weights={**WEIGHTS, "view": 0})
    bag = shop.bag([0, 2, 1, 3, 4, 6])  # types: cart, view, purchase, cart, purchase, cart; the newest first
    found = shop.explain(bag, Target(next(iter(shop.scores(bag)))))
    assert {one.item_id for one in found.items} == {"item-0", "item-2"}


@each
def test_an_empty_bag_has_the_score_of_the_prior_or_the_trend_and_no_place_to_lose(
    shops: dict[str, Shop], name: str
) -> None:
    shop = shops[name]
    category, score = next(iter(shop.scores(Bag()).items()))
    assert shop.explain(Bag(), Target(category)) == Explanation(score=score, items=[], smallest_set=None, exact=True)
    assert shop.explain(Bag(), Target(item_code=shop.code(1))).score == 0


def test_the_only_item_is_the_smallest_set_if_the_prior_has_another_order(shops: dict[str, Shop]) -> None:
    shop = shops["shipped"]
    best = next(iter(shop.scores(shop.bag([7]))))
    assert next(iter(shop.scores(Bag()))) != best
    found = shop.explain(shop.bag([7]), Target(best))
    assert (found.smallest_set, found.exact) == (["item-0"], True)


def test_an_unknown_category_and_a_target_that_is_none_or_both_are_refused(shops: dict[str, Shop]) -> None:
    shop = shops["shipped"]
    bag = shop.bag([1])
    with pytest.raises(UnknownCategory, match="'hovercraft'"):
        shop.explain(bag, Target("hovercraft"))
    for target in (Target(), Target("seating", shop.code(1))):
        with pytest.raises(ValueError, match="a category or the code of an item"):
            shop.explain(bag, target)
    with pytest.raises(ValueError, match="expected 171 bytes"):
        shop.explain(bag, Target(item_code=b"short"))


@each
def test_a_bag_of_64_is_explained_within_a_bounded_amount_of_work(
    shops: dict[str, Shop], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shops[name]
    bag = shop.bag(list(range(64)))
    scored: list[tuple[int, int]] = []
    aggregator = shop.recommender._aggregator
    score = aggregator.score

    def counted(embeddings: NDArray[np.float32], *rest: NDArray[np.float32]) -> Scored:
        scored.append((len(embeddings), embeddings.shape[1]))
        return score(embeddings, *rest)

    monkeypatch.setattr(aggregator, "score", counted)
    for category in list(shop.scores(bag))[:3]:
        scored.clear()
        found = shop.explain(bag, Target(category))
        assert len(found.items) == 64
        greedy = 64 * 32  # of each pass
        assert sum(bags * items for bags, items in scored) <= 64 + 64 * 63 + ROWS + 2 * greedy
        assert scored[:2] == [(1, 64), (64, 63)] or scored[:3] == [(1, 1), (1, 64), (64, 63)]


class Made:
    """Measures a bag of which one set of items holds the target in its place."""

    def __init__(self, size: int, holding: set[int]) -> None:
        self.size, self.rows = size, 0
        self._holding = holding

    def __call__(self, removed: NDArray[np.intp]) -> _Measured:
        self.rows += len(removed) * (self.size - removed.shape[1])
        leads = np.array([0.0 if self._holding <= set(places) else 1.0 for places in removed.tolist()])
        return _Measured(leads, leads)


@pytest.mark.parametrize(
    ("size", "holding", "exact"),
    [
        (40, {39}, True),
        (40, {38, 39}, True),  # found by taking all away; single items do not do
        (40, {0, 1, 2}, False),  # there are too many pairs to try them all
        (40, {37, 38, 39}, False),
        (9, {6, 7, 8}, True),
        (11, {7, 8, 9, 10}, True),
        (12, {8, 9, 10, 11}, False),
        (17, {14, 15, 16}, True),
        (18, {15, 16, 17}, False),
        (9, {5, 6, 7, 8}, True),  # all sets of three were tried
        (9, {0, 2, 4, 6, 8}, False),
    ],
)
def test_a_set_is_exact_if_all_smaller_sets_were_tried(size: int, holding: set[int], exact: bool) -> None:
    measure = Made(size, holding)
    found, is_exact = _smallest(measure, 1.0, measure(np.arange(size)[:, None]).leads)
    assert (set(found or ()), is_exact) == (holding, exact)


def test_no_set_is_exact_only_if_all_sets_were_tried() -> None:
    for size, exact in ((1, True), (3, True), (4, False), (40, False)):
        measure = Made(size, {99})
        assert _smallest(measure, 1.0, measure(np.arange(size)[:, None]).leads) == (None, exact)


@each
@settings(max_examples=20, deadline=None)
@given(picked=numbers)
def test_the_categories_without_an_item_are_those_of_the_bag_without_it(
    shops: dict[str, Shop], name: str, picked: list[int]
) -> None:
    shop, gone = shops[name], len(picked) // 2
    bag, rest = shop.bag(picked), shop.bag(picked, without=(gone,))
    found = without_item(shop.recommender, bag, NOON, shop.trend, f"item-{gone}", most=1000)
    assert found.scored
    assert {one.category: one.score for one in found.categories} == pytest.approx(shop.scores(bag), abs=1e-5)
    assert {one.category: one.without for one in found.categories} == pytest.approx(shop.scores(rest), abs=1e-5)
    values = [one.without for one in found.categories]
    assert values == sorted(values, reverse=True)


def test_the_best_categories_with_and_without_an_item_are_named(shops: dict[str, Shop]) -> None:
    shop = shops["shipped"]
    bag = shop.bag([3, 8])
    found = without_item(shop.recommender, bag, NOON, shop.trend, "item-0", most=2)
    best = {*list(shop.scores(bag))[:2], *list(shop.scores(shop.bag([3, 8], without=(0,))))[:2]}
    assert {one.category for one in found.categories} == best


def test_without_an_item_that_is_not_scored_nothing_changes() -> None:
    shop = Shop(Bundle.load(), bag_size=1)
    found = without_item(shop.recommender, shop.bag([3, 8]), NOON, shop.trend, "item-1", most=3)
    assert not found.scored
    assert all(one.score == one.without for one in found.categories)
