"""A bundle that uses the trend: what is recommended depends on the bag, on a moment, and on what all users took before it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from model.aggregator import Aggregator, Scored
from model.bundle import LABELS, Bundle
from model.bundle.manifest import Field
from model.quantization import dequantize, quantize
from model.scoring import ScoringBag, score_bags
from streams.exceptions import EventError
from streams.messages import EmbeddedInteraction, InteractionType, Recommendation, encode_recommendation
from streams.profile.bag import Bag, fold
from streams.profile.batch import Profile, outcome_of, trend_for
from streams.profile.scoring import BAGS_PER_CALL, Answer, Recommender, ScoringOptions
from streams.schema import recommendation_schema
from streams.trend.trend import DAY, WHOLE_ITEM, Trend
from tests.bundles import write_trending

NOW = datetime(2014, 6, 1, tzinfo=UTC)
TODAY = 16_000  # since the epoch
NOON = TODAY * DAY + DAY // 2
OPTIONS = ScoringOptions(
    bag_size=64, top_k=10, type_weights={"purchase": 1.0, "cart": 0.6, "view": 0.3}, half_life=None
)
ALL = ScoringOptions(bag_size=64, top_k=1000, type_weights=OPTIONS.type_weights, half_life=None)
VALID = jsonschema.Draft202012Validator(recommendation_schema())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_trending(tmp_path_factory.mktemp("bundles") / "trending"))


@pytest.fixture(scope="module")
def trend(bundle: Bundle) -> Trend:
    """Each day something else is wanted."""
    rng = np.random.default_rng(4)
    return Trend(
        7,
        {TODAY - day: rng.integers(0, 90 * WHOLE_ITEM, len(bundle.categories)) for day in range(40)},
        len(bundle.categories),
    )


def event(
    bundle: Bundle, number: int, kind: InteractionType = "purchase", *, at: int = NOON, item: str = ""
) -> EmbeddedInteraction:
    embedding = quantize(np.random.default_rng(number).random(bundle.embedding_size, np.float32))
    pictured = kind in OPTIONS.type_weights
    return EmbeddedInteraction(
        event_id=f"e{number}",
        user_id="anna",
        item_id=item or f"item-{number}",
        type=kind,
        timestamp=at,
        embedder_version=bundle.embedder_version if pictured else "",
        embedding=embedding if pictured else b"",
    )


def bag_of(bundle: Bundle, *events: EmbeddedInteraction) -> Bag:
    bag = Bag()
    for one in events:
        bag = fold(bag, one, max_slots=128, kept={bundle.embedder_version})
    return bag


def recommender(bundle: Bundle, options: ScoringOptions = OPTIONS) -> Recommender:
    return Recommender(bundle, bundle.aggregator(), options)


def answer(bundle: Bundle, bag: Bag, trend: Trend, *, at: int = NOON) -> Answer:
    [found] = recommender(bundle, ALL).answers([(bag, at)], trend)
    return found


def published(bundle: Bundle, trend: Trend, *caused: tuple[EmbeddedInteraction, Bag]) -> list[Recommendation]:
    found = recommender(bundle).recommend(caused, now=NOW, trend=trend)
    return [one for one in found if one is not None]


def scores(answer: Answer | Recommendation) -> dict[str, float]:
    return {one.category: one.score for one in answer.categories}


def by_name(bundle: Bundle, values: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(bundle.categories, values.tolist(), strict=True))


def share(bundle: Bundle, counts: NDArray[np.float32]) -> dict[str, float]:
    """The scores of `write_trending` for a bag that says nothing: the shares of the smoothed counts of 28 days in their field."""
    found = counts[1] + bundle.prior + 0.01
    for field in bundle.fields:
        found[field.categories] /= found[field.categories].sum()
    return by_name(bundle, found)


# Ages and windows


def test_items_have_the_age_and_the_trend_the_windows_of_the_time_of_the_event(bundle: Bundle, trend: Trend) -> None:
    days = [0.25, 3, 20]
    events = [event(bundle, number, at=NOON - int(day * DAY)) for number, day in enumerate(days)]
    later = event(bundle, 9, "view", at=NOON, item="unseen")
    caused = later, bag_of(bundle, *events)
    rows = dequantize([one.embedding for one in events], bundle.embedding_size)
    exact = ScoringBag(rows, np.zeros(3, np.float32), np.array(days, np.float32), trend.at(NOON))
    [expected] = score_bags(bundle.aggregator(), [exact])
    [found] = published(bundle, trend, caused)
    weights = {one.item_id: one.weight for one in found.attention}
    assert [weights[f"item-{n}"] for n in range(3)] == pytest.approx(expected.attention.tolist(), abs=1e-6)
    all_scores = by_name(bundle, expected.scores)
    assert scores(found) == pytest.approx({name: all_scores[name] for name in scores(found)}, abs=2e-6)


def test_an_item_that_was_touched_after_the_event_has_the_age_of_0(bundle: Bundle, trend: Trend) -> None:
    bag = bag_of(bundle, event(bundle, 1, at=NOON + 3 * DAY), event(bundle, 2, at=NOON))
    [found] = published(bundle, trend, (event(bundle, 2, at=NOON), bag))
    assert [one.weight for one in found.attention] == [0.5, 0.5]


def test_a_late_event_is_answered_by_what_was_known_at_its_time(bundle: Bundle, trend: Trend) -> None:
    bag = bag_of(bundle, event(bundle, 1, at=NOON))
    week_ago = NOON - 7 * DAY
    [late] = published(bundle, trend, (event(bundle, 1, at=week_ago), bag))
    assert scores(late) == {
        name: score for name, score in scores(answer(bundle, bag, trend, at=week_ago)).items() if name in scores(late)
    }
    [now] = published(bundle, trend, (event(bundle, 1, at=NOON), bag))
    assert scores(late) != scores(now)


def test_asking_later_makes_items_older_and_the_trend_newer(bundle: Bundle, trend: Trend) -> None:
    bag = bag_of(bundle, event(bundle, 1, at=NOON), event(bundle, 2, at=NOON - 4 * DAY))
    today, in_a_month = (answer(bundle, bag, trend, at=NOON + days * DAY) for days in (0, 30))
    assert [one.weight for one in today.attention] == pytest.approx([1 / (1 + 1 / 5), (1 / 5) / (1 + 1 / 5)], abs=1e-6)
    older = [1 / 31, 1 / 35]
    assert [one.weight for one in in_a_month.attention] == pytest.approx([one / sum(older) for one in older], abs=1e-6)
    assert today.categories != in_a_month.categories


def test_events_of_several_days_in_a_batch_are_scored_as_alone(bundle: Bundle, trend: Trend) -> None:
    caused = [
        (one, bag_of(bundle, *([one] if number % 3 else []), event(bundle, 1, "return", at=0)))
        for number in range(2 * BAGS_PER_CALL + 6)
        for one in [event(bundle, number, at=NOON - (number * 7 % 5) * DAY)]
    ]  # every third is empty
    together = published(bundle, trend, *caused)
    for one, found in zip(caused, together, strict=True):
        [alone] = published(bundle, trend, one)
        assert (found.bag_size, found.trend_version) == (alone.bag_size, alone.trend_version)
        assert scores(found) == pytest.approx(scores(alone), abs=2e-6)


def test_the_windows_of_a_day_are_computed_once_for_a_batch(bundle: Bundle, trend: Trend) -> None:
    class Counting(Trend):
        def at(self, timestamp: int) -> NDArray[np.float32]:
            found = super().at(timestamp)
            if not any(found is one for one in kept):
                kept.append(found)
            return found

    kept: list[NDArray[np.float32]] = []
    counting = Counting(7, {TODAY: np.zeros(len(bundle.categories), np.int64)}, len(bundle.categories))
    caused = [event(bundle, number, at=NOON + number % 2 * DAY + number) for number in range(20)]
    published(bundle, counting, *((one, bag_of(bundle, one)) for one in caused))
    assert len(kept) == 2


# The version


def test_a_message_names_the_version_of_the_trend(bundle: Bundle, trend: Trend) -> None:
    one = event(bundle, 1)
    assert published(bundle, trend, (one, bag_of(bundle, one)))[0].trend_version == 7
    nothing = Trend(None, {}, len(bundle.categories))
    assert published(bundle, nothing, (one, bag_of(bundle, one)))[0].trend_version is None


def test_a_bundle_that_does_not_use_the_trend_is_the_same_at_any_time_and_names_no_version(trend: Trend) -> None:
    shipped = Bundle.load()
    bag, nothing = (
        bag_of(shipped, event(shipped, 1), event(shipped, 2, at=NOON - 9 * DAY)),
        Trend(None, {}, len(shipped.categories)),
    )
    first, *others = (
        recommender(shipped).answers([(bag, at), (Bag(), at)], some)
        for at in (NOON, 0, 2 * NOON)
        for some in (trend, nothing)
    )
    assert all(one == first for one in others)
    assert [one.trend_version for one in first] == [None, None]


def test_a_trend_of_another_number_of_categories_is_refused(bundle: Bundle) -> None:
    one = event(bundle, 1)
    with pytest.raises(ValueError, match=f"expected a trend of {len(bundle.categories)} categories, found 1"):
        published(bundle, Trend(3, {}, 1), (one, bag_of(bundle, one)))


# Nobody's bag


@pytest.mark.parametrize("days", [0, 3, -50])
def test_an_empty_bag_gets_the_trend_of_that_moment(bundle: Bundle, trend: Trend, days: int) -> None:
    at = NOON + days * DAY
    expected = pytest.approx(share(bundle, trend.at(at)), abs=1e-6)
    found = answer(bundle, Bag(), trend, at=at)
    assert (found.items, found.attention, found.trend_version) == ([], [], 7)
    assert scores(found) == expected


def test_a_bag_whose_items_were_all_returned_is_a_cold_start_with_the_trend(bundle: Bundle, trend: Trend) -> None:
    returned = bag_of(bundle, event(bundle, 1), event(bundle, 2, "return", item="item-1", at=NOON + 1))
    [found] = published(bundle, trend, (event(bundle, 2, "return", item="item-1", at=NOON + 1), returned))
    assert (found.cold_start, found.bag_size, found.attention, found.trend_version) == (True, 0, [], 7)
    expected = share(bundle, trend.at(NOON + 1))
    assert scores(found) == pytest.approx({name: expected[name] for name in scores(found)}, abs=1e-6)


def test_a_bag_of_another_embedder_and_one_of_hidden_items_are_cold_starts_with_the_trend(
    bundle: Bundle, trend: Trend
) -> None:
    expected = scores(answer(bundle, Bag(), trend))
    other = msgspec.structs.replace(event(bundle, 1), embedder_version="another")
    assert scores(answer(bundle, bag_of(bundle, other), trend)) == expected
    viewed = bag_of(bundle, event(bundle, 1, "view"))
    options = ScoringOptions(bag_size=64, top_k=1000, type_weights={**OPTIONS.type_weights, "view": 0}, half_life=None)
    [hidden] = recommender(bundle, options).answers([(viewed, NOON)], trend)
    assert (scores(hidden), hidden.items) == (expected, [])


def test_an_erased_user_gets_no_recommendation(bundle: Bundle, trend: Trend) -> None:
    one, erase = event(bundle, 1), event(bundle, 2, "erase", at=NOON + 1)
    caused = [(one, bag_of(bundle, one)), (erase, bag_of(bundle, one, erase)), (one, bag_of(bundle, one))]
    first, none, last = recommender(bundle).recommend(caused, now=NOW, trend=trend)
    assert none is None
    assert first is not None
    assert first == last


def test_a_shop_that_just_opened_recommends_finite_numbers(bundle: Bundle) -> None:
    nothing = Trend(None, {}, len(bundle.categories))
    for bag in (Bag(), bag_of(bundle, event(bundle, 1))):
        assert all(0 <= score <= 1 for score in scores(answer(bundle, bag, nothing)).values())


# Fields


def test_a_message_has_the_three_best_values_of_each_field(bundle: Bundle, trend: Trend) -> None:
    one = event(bundle, 1)
    found = answer(bundle, bag_of(bundle, one), trend)
    assert [field.field for field in found.fields] == ["first", "second"]
    for field, described in zip(found.fields, bundle.fields, strict=True):
        names = {bundle.categories[place] for place in described.categories}
        values = [value for value in found.categories if value.category in names]
        assert field.values == values[:3], "best first, with the scores of the categories"
        assert sum(value.score for value in values) == pytest.approx(1, abs=1e-4)
    [message] = published(bundle, trend, (one, bag_of(bundle, one)))
    assert message.fields == found.fields
    VALID.validate(json.loads(encode_recommendation(message)))


def with_other(bundle: Bundle, **changes: Any) -> Bundle:
    """The same files with another manifest."""
    return Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, **changes))


def test_a_field_of_one_value_has_one_and_a_category_of_no_field_is_in_none() -> None:
    bundle = with_other(Bundle.load(), fields=[Field("lonely", [5]), Field("two", [9, 2])])
    [found] = recommender(bundle, ALL).answers([(Bag(), NOON)], Trend(None, {}, len(bundle.categories)))
    assert [len(field.values) for field in found.fields] == [1, 2]
    assert found.fields[0].values[0].category == bundle.categories[5]
    assert {value.category for value in found.fields[1].values} == {bundle.categories[9], bundle.categories[2]}


# What is tried out before a bundle is used


class Altered:
    """An aggregator with other outputs."""

    def __init__(
        self, aggregator: Aggregator, change: Callable[[Scored, NDArray[np.float32], NDArray[np.float32]], None]
    ) -> None:
        self.embedding_size, self.category_count = aggregator.embedding_size, aggregator.category_count
        self.uses_trend = aggregator.uses_trend
        self._aggregator, self._change = aggregator, change

    def score(self, embeddings: Any, log_weight: Any, ages: Any, trend: Any) -> Scored:
        scored = self._aggregator.score(embeddings, log_weight, ages, trend)
        self._change(scored, log_weight, trend)
        return scored


def nan_without_a_trend(scored: Scored, _: Any, trend: NDArray[np.float32]) -> None:
    scored.scores[(trend == 0).all(axis=(1, 2))] = np.nan


def nan_with_a_large_trend(scored: Scored, _: Any, trend: NDArray[np.float32]) -> None:
    scored.scores[trend.max(axis=(1, 2)) > 1e5] = np.nan


def nan_without_an_item(scored: Scored, log_weight: NDArray[np.float32], _: Any) -> None:
    scored.scores[log_weight.max(axis=1) < -50] = np.nan


def halved(scored: Scored, *_: Any) -> None:
    scored.scores[:] /= 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (nan_without_a_trend, "numbers from nan to nan"),
        (nan_with_a_large_trend, "numbers from nan to nan"),
        (nan_without_an_item, "numbers from nan to nan"),
        (halved, "scores of the field first that sum to 0.5, and not to 1"),
    ],
)
def test_a_bundle_that_fails_at_the_edges_of_the_trend_is_found_before_it_is_used(
    bundle: Bundle, change: Any, what: str
) -> None:
    recommender(bundle).try_out()
    broken = Recommender(bundle, Altered(bundle.aggregator(), change), OPTIONS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(EventError, match=what):
        broken.try_out()


# The trend of the bundle that is tried


def test_a_bundle_is_tried_with_the_served_trend_if_its_categories_are_the_same(bundle: Bundle, trend: Trend) -> None:
    files = {**bundle.manifest.files, LABELS: "0" * 64}
    same_categories = with_other(bundle, files=files)
    assert same_categories.labels_version != bundle.labels_version
    assert trend_for(same_categories, trend, of=bundle) is trend
    renamed = with_other(bundle, categories=[f"{name}s" for name in bundle.categories])
    assert trend_for(renamed, trend, of=bundle) is trend, "the same labels with other names"


@pytest.mark.parametrize("change", [sorted, itemgetter(slice(None, -1)), list])
def test_a_bundle_that_counts_other_things_is_tried_with_a_trend_of_nothing(
    bundle: Bundle, trend: Trend, change: Any
) -> None:
    files = {**bundle.manifest.files, LABELS: "0" * 64}
    other = with_other(bundle, files=files, categories=change(list(reversed(bundle.categories))))
    found = trend_for(other, trend, of=bundle)
    assert (found.version, found.at(NOON).tolist()) == (None, [[0.0] * len(other.categories)] * 3)


@pytest.mark.parametrize(("renamed", "version"), [(False, 7), (True, None)])
def test_a_batch_is_scored_for_the_next_bundle_by_the_trend_that_it_may_have(
    bundle: Bundle, trend: Trend, renamed: bool, version: int | None
) -> None:
    categories = list(reversed(bundle.categories)) if renamed else list(bundle.categories)
    files = {**bundle.manifest.files, LABELS: "0" * 64}
    following, event_of_anna = with_other(bundle, files=files, categories=categories), event(bundle, 1)
    profile = Profile([], Bag(), Bag())
    outcome = outcome_of(
        [(event_of_anna, profile)], {0: {"anna": profile}}, recommender(bundle), recommender(following),
        max_slots=128, kept={bundle.embedder_version}, now=NOW, trend=trend,
    )  # fmt: skip
    assert outcome.next_failure is None
    [(_, served, _)], [(_, tried, _)] = outcome.recommendations, outcome.next_recommendations
    assert json.loads(served or b"")["trend_version"] == 7
    assert json.loads(tried or b"")["trend_version"] == version
