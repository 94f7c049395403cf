"""From bags to recommendations, with the default bundle: a batch equals its singles, and the settings have their effect."""

from datetime import UTC, datetime

import numpy as np
import pytest

from model.bundle import Bundle
from model.quantization import quantize
from streams.messages import EmbeddedInteraction, InteractionType, Recommendation
from streams.profile.bag import Bag, BagItem, fold
from streams.profile.scoring import BAGS_PER_CALL, Recommender, ScoringOptions, heaviest, log_weight
from streams.trend.trend import Trend

WEIGHTS = {"purchase": 1.0, "cart": 0.6, "view": 0.3}
NOW = datetime(2014, 6, 1, tzinfo=UTC)
NOON = 1_398_945_600_000
DAY = 86_400_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def options(
    weights: dict[str, float] | None = None, half_life: float | None = None, *, bag_size: int = 64, top_k: int = 10
) -> ScoringOptions:
    return ScoringOptions(bag_size=bag_size, top_k=top_k, type_weights=weights or WEIGHTS, half_life=half_life)


def item(*types: str, timestamp: int = NOON) -> BagItem:
    return BagItem("shoe", frozenset(types), timestamp, b"")


def event(
    bundle: Bundle,
    number: int,
    kind: InteractionType = "purchase",
    *,
    user: str = "anna",
    days: int = 0,
    item: str = "",
) -> EmbeddedInteraction:
    pixels = np.random.default_rng(number).random(bundle.embedding_size, np.float32)
    return EmbeddedInteraction(
        event_id=f"e{number}",
        user_id=user,
        item_id=item or f"item-{number}",
        type=kind,
        timestamp=NOON + days * DAY,
        embedder_version=bundle.embedder_version,
        embedding=quantize(pixels) if kind in WEIGHTS else b"",
    )


def bag_of(bundle: Bundle, *events: EmbeddedInteraction) -> Bag:
    bag = Bag()
    for one in events:
        bag = fold(bag, one, max_slots=128, kept={bundle.embedder_version})
    return bag


def no_trend(bundle: Bundle) -> Trend:
    return Trend(None, {}, len(bundle.categories))


def recommend(bundle: Bundle, scoring: ScoringOptions, *bags: Bag) -> list[Recommendation | None]:
    recommender = Recommender(bundle, bundle.aggregator(), scoring)
    return recommender.recommend([(event(bundle, 0), bag) for bag in bags], now=NOW, trend=no_trend(bundle))


def one(bundle: Bundle, scoring: ScoringOptions, bag: Bag) -> Recommendation:
    [found] = recommend(bundle, scoring, bag)
    assert found is not None
    return found


# The log weight


def test_the_log_weight_is_the_log_of_the_strongest_types_weight() -> None:
    bag = [item("purchase"), item("cart"), item("view"), item("view", "cart"), item("view", "purchase")]
    assert np.exp(log_weight(bag, options())) == pytest.approx([1, 0.6, 0.3, 0.6, 1])
    assert log_weight(bag, options()).dtype == np.float32


def test_an_item_of_one_half_life_counts_half() -> None:
    bag = [item("purchase"), item("purchase", timestamp=NOON - DAY), item("cart", timestamp=NOON - 2 * DAY)]
    assert np.exp(log_weight(bag, options(half_life=86_400))) == pytest.approx([1, 0.5, 0.15])


def test_age_is_measured_from_the_newest_item_not_from_the_clock() -> None:
    days = [0, 1, 5]
    old, new = ([item("purchase", timestamp=start + day * DAY) for day in days] for start in (0, NOON))
    assert np.array_equal(log_weight(old, options(half_life=86_400)), log_weight(new, options(half_life=86_400)))


def test_without_a_half_life_age_does_not_matter() -> None:
    assert np.ptp(log_weight([item("view"), item("view", timestamp=0)], options())) == 0


def test_a_weight_of_zero_hides_an_item_without_a_warning() -> None:
    assert log_weight([item("view"), item("cart")], options({**WEIGHTS, "view": 0}))[0] == -np.inf


def test_an_empty_bag_has_no_log_weights() -> None:
    assert log_weight([], options(half_life=1)).shape == (0,)


# The recommendation


def test_a_bag_is_scored_best_first_with_the_attention_of_its_items(bundle: Bundle) -> None:
    found = one(bundle, options(), bag_of(bundle, *(event(bundle, number) for number in range(5))))
    assert (found.cold_start, found.bag_size) == (False, 5)
    assert (found.user_id, found.event_id, found.produced_at) == ("anna", "e0", NOW)
    assert (found.model.name, found.model.version) == (bundle.name, bundle.version)
    scores = [category.score for category in found.categories]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert {one.item_id for one in found.attention} == {f"item-{number}" for number in range(5)}
    assert sum(one.weight for one in found.attention) == pytest.approx(1, abs=1e-4)


def test_top_k_cuts_categories_and_attention(bundle: Bundle) -> None:
    bag = bag_of(bundle, *(event(bundle, number) for number in range(5)))
    found = one(bundle, options(top_k=3), bag)
    whole = one(bundle, options(top_k=1000), bag)
    assert (found.categories, found.attention) == (whole.categories[:3], whole.attention[:3])
    assert len(whole.categories) == len(bundle.categories)


def test_only_the_newest_items_are_scored(bundle: Bundle) -> None:
    events = [event(bundle, number, days=number) for number in range(6)]
    found = one(bundle, options(bag_size=2), bag_of(bundle, *events))
    assert found.bag_size == 2
    assert {one.item_id for one in found.attention} == {"item-4", "item-5"}


def test_a_stronger_interaction_gets_more_attention(bundle: Bundle) -> None:
    def weight(kind: InteractionType) -> float:
        found = one(bundle, options(), bag_of(bundle, event(bundle, 1, kind), event(bundle, 2), event(bundle, 3)))
        return next(one.weight for one in found.attention if one.item_id == "item-1")

    assert weight("view") < weight("cart") < weight("purchase")


def test_an_item_of_weight_zero_is_not_in_the_bag(bundle: Bundle) -> None:
    scoring = options({**WEIGHTS, "view": 0})
    with_view = one(bundle, scoring, bag_of(bundle, event(bundle, 1), event(bundle, 2, "view")))
    without = one(bundle, scoring, bag_of(bundle, event(bundle, 1)))
    assert with_view == without


def test_a_bag_of_hidden_items_only_is_a_cold_start(bundle: Bundle) -> None:
    assert one(bundle, options({**WEIGHTS, "view": 0}), bag_of(bundle, event(bundle, 1, "view"))).cold_start


def test_a_bag_whose_items_were_all_returned_gets_the_prior(bundle: Bundle) -> None:
    returned = bag_of(bundle, event(bundle, 1), event(bundle, 2, "return", item="item-1", days=1))
    found = one(bundle, options(), returned)
    assert (found.cold_start, found.bag_size, found.attention) == (True, 0, [])
    best = np.argsort(-bundle.prior, kind="stable")[:10]
    assert [(c.category, c.score) for c in found.categories] == [
        (bundle.categories[place], round(float(bundle.prior[place]), 6)) for place in best
    ]


def test_an_item_embedded_by_another_model_is_not_scored_with_ours(bundle: Bundle) -> None:
    other = EmbeddedInteraction(
        event_id="o",
        user_id="anna",
        item_id="other",
        type="purchase",
        timestamp=NOON,
        embedder_version="another",
        embedding=b"\0" * 9,
    )
    assert one(bundle, options(), bag_of(bundle, other)).cold_start
    assert one(bundle, options(), bag_of(bundle, other, event(bundle, 1))).bag_size == 1


def test_an_erased_bag_gets_no_recommendation(bundle: Bundle) -> None:
    erased = bag_of(bundle, event(bundle, 1), event(bundle, 2, "erase", days=1))
    assert recommend(bundle, options(), erased) == [None]
    assert recommend(bundle, options(), Bag()) == [None]


# A batch is its singles


def test_a_batch_over_several_calls_equals_its_singles(bundle: Bundle) -> None:
    sizes = [number % 7 for number in range(2 * BAGS_PER_CALL + 6)]  # empty ones among them
    bags = [
        bag_of(bundle, *(event(bundle, 100 * number + place, "view" if place % 2 else "cart") for place in range(size)))
        for number, size in enumerate(sizes)
    ]
    together = recommend(bundle, options(), *bags)
    for bag, found in zip(bags, together, strict=True):
        [alone] = recommend(bundle, options(), bag)
        assert (found is None) == (alone is None) == (not bag.slots)
        if found is not None and alone is not None:
            assert found.bag_size == alone.bag_size == len(bag.slots)
            assert [c.category for c in found.categories[:3]] == [c.category for c in alone.categories[:3]]
            assert [c.score for c in found.categories] == pytest.approx([c.score for c in alone.categories], abs=2e-6)
            weights = {one.item_id: one.weight for one in alone.attention}
            assert {one.item_id: one.weight for one in found.attention} == pytest.approx(weights, abs=2e-6)


def test_scoring_no_bags_returns_nothing(bundle: Bundle) -> None:
    assert recommend(bundle, options()) == []


def test_the_largest_values_come_first_and_ties_keep_their_order() -> None:
    assert heaviest(np.array([0.1, 0.5, 0.5, 0.9], np.float32), 3).tolist() == [3, 1, 2]
