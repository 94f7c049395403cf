"""Metrics equal values computed by hand on small rankings, and a slow implementation on random ones."""

from collections.abc import Callable
from math import isnan, log2, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from model import metrics

# Order, best first: user 0 has 0, 1, 2, 3; user 1 has 3, 2, 1, 0.
SCORES = np.array([[0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.6, 0.7]], np.float32)
LABELS = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], np.float32)
RANKED = metrics.rank(SCORES, LABELS)

Case = tuple[metrics.Scores, NDArray[np.float32]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Scores in hundredths (with ties, and values on thresholds and bin edges) and labels. Some users have no label."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    scores = draw(arrays(np.int64, shape, elements=st.integers(0, 100))) / 100
    labels = draw(arrays(np.bool_, shape)).astype(np.float32)
    return scores.astype(np.float32) if draw(st.booleans()) else scores, labels


def best_first(scores: metrics.Scores) -> list[int]:
    return sorted(range(len(scores)), key=lambda category: (-scores[category], category))


def slowly(
    scores: metrics.Scores, labels: NDArray[np.float32], of_user: Callable[[list[bool], list[float]], float]
) -> list[float]:
    """Apply `of_user` to the labels and scores of each user in rank order. NaN for a user without a label."""
    found: list[float] = []
    for user_scores, user_labels in zip(scores, labels, strict=True):
        order = best_first(user_scores)
        hits = [bool(user_labels[category]) for category in order]
        found.append(of_user(hits, [float(user_scores[category]) for category in order]) if any(hits) else nan)
    return found


def assert_same(found: NDArray[np.float64], expected: list[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # NaN equals NaN


# ranking


def test_recall_divides_by_the_number_of_relevant_categories() -> None:
    assert RANKED.recall_at(1).tolist() == [1 / 2, 1]
    assert RANKED.recall_at(3).tolist() == [1, 1]


def test_precision_divides_by_k() -> None:
    assert RANKED.precision_at(2).tolist() == [1 / 2, 1 / 2]
    assert RANKED.precision_at(3).tolist() == [2 / 3, 1 / 3]


def test_precision_of_rounded_divides_by_the_best_scores_that_round_to_one() -> None:
    assert RANKED.precision_of_rounded_at(1).tolist() == [1, 1]  # no more than k are counted
    assert RANKED.precision_of_rounded_at(2).tolist() == [1 / 2, 1 / 2]
    assert RANKED.precision_of_rounded_at(4).tolist() == [2 / 2, 1 / 2]  # where precision is 2 / 4 and 1 / 4


def test_precision_of_rounded_can_exceed_one() -> None:
    ranked = metrics.rank(np.array([[0.6, 0.4, 0.3]]), np.ones((1, 3), np.float32))
    assert ranked.precision_of_rounded_at(3).tolist() == [3]


def test_precision_of_rounded_is_zero_if_no_score_rounds_to_one() -> None:
    ranked = metrics.rank(np.array([[0.5, 0.4]]), np.array([[True, False]]))  # .5 rounds to 0
    assert ranked.precision_of_rounded_at(1).tolist() == [0]
    assert ranked.recall_at(1).tolist() == [1]


def test_average_precision_averages_over_the_ranks_of_the_hits() -> None:
    assert RANKED.average_precision().tolist() == pytest.approx([(1 + 2 / 3) / 2, 1])


def test_ndcg_divides_the_discounted_gain_by_that_of_the_ideal_order() -> None:
    # user 0 has hits at ranks 1 and 3, at best at 1 and 2
    assert RANKED.ndcg_at(1).tolist() == [1, 1]
    assert RANKED.ndcg_at(2).tolist() == pytest.approx([1 / (1 + 1 / log2(3)), 1])
    assert RANKED.ndcg_at(4).tolist() == pytest.approx([(1 + 1 / 2) / (1 + 1 / log2(3)), 1])


def test_the_reciprocal_rank_is_taken_at_the_first_hit() -> None:
    ranked = metrics.rank(SCORES, np.array([[0, 0, 1, 1], [0, 0, 0, 1]], np.float32))
    assert ranked.reciprocal_rank().tolist() == [1 / 3, 1]


def test_coverage_is_the_share_of_categories_given_to_any_user() -> None:
    assert RANKED.coverage_at(1) == 2 / 4
    assert RANKED.coverage_at(2) == 4 / 4
    same_for_all = metrics.rank(np.tile(SCORES[:1], (5, 1)), np.zeros((5, 4), np.float32))
    assert same_for_all.coverage_at(3) == 3 / 4


def test_the_lower_category_comes_first_in_a_tie() -> None:
    assert metrics.rank(np.full((1, 40), 0.3), np.ones((1, 40), np.float32)).order.tolist() == [list(range(40))]


def test_a_user_without_a_label_has_no_value_and_does_not_count_in_the_mean() -> None:
    ranked = metrics.rank(np.vstack([SCORES[:1], SCORES]), np.vstack([np.zeros((1, 4), np.float32), LABELS]))
    for k in range(1, 5):
        for name in ("recall_at", "precision_at", "precision_of_rounded_at", "ndcg_at"):
            assert_same(getattr(ranked, name)(k), [nan, *getattr(RANKED, name)(k)])
    assert_same(ranked.average_precision(), [nan, *RANKED.average_precision()])
    assert_same(ranked.reciprocal_rank(), [nan, *RANKED.reciprocal_rank()])
    assert metrics.mean(ranked.recall_at(1)) == metrics.mean(RANKED.recall_at(1)) == 3 / 4
    with pytest.raises(ValueError, match="no user has a label"):
        metrics.mean(metrics.rank(SCORES, np.zeros_like(LABELS)).recall_at(1))


@pytest.mark.parametrize("k", [0, 5])
@pytest.mark.parametrize("name", ["recall_at", "precision_at", "precision_of_rounded_at", "ndcg_at", "coverage_at"])
def test_k_outside_the_number_of_categories_is_refused(name: str, k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k}: expected 1 to 4"):
        getattr(RANKED, name)(k)


def test_labels_of_another_shape_and_nan_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same shape .*, found \(2, 4\) and \(2, 3\)"):
        metrics.rank(SCORES, LABELS[:, :3])
    with pytest.raises(ValueError, match="1 scores are NaN"):
        metrics.rank(np.array([[0.1, nan]]), np.ones((1, 2), np.float32))


@given(cases())
def test_ranking_metrics_equal_the_slow_implementation(case: Case) -> None:
    ranked = metrics.rank(*case)
    categories = case[0].shape[1]
    for k in range(1, categories + 1):
        assert_same(ranked.recall_at(k), slowly(*case, lambda hits, _, k=k: sum(hits[:k]) / sum(hits)))
        assert_same(ranked.precision_at(k), slowly(*case, lambda hits, _, k=k: sum(hits[:k]) / k))

        def of_rounded(hits: list[bool], scores: list[float], k: int = k) -> float:
            rounded = sum(round(score) for score in scores[:k])
            return sum(hits[:k]) / rounded if rounded else 0

        assert_same(ranked.precision_of_rounded_at(k), slowly(*case, of_rounded))

        def ndcg(hits: list[bool], _: list[float], k: int = k) -> float:
            def gain(order: list[bool]) -> float:
                return sum(hit / log2(1 + place) for place, hit in enumerate(order[:k], 1))

            return gain(hits) / gain(sorted(hits, reverse=True))

        assert_same(ranked.ndcg_at(k), slowly(*case, ndcg))
        given_to_anybody = {category for scores in case[0] for category in best_first(scores)[:k]}
        assert ranked.coverage_at(k) == len(given_to_anybody) / categories

    def average_precision(hits: list[bool], _: list[float]) -> float:
        places = [place for place, hit in enumerate(hits, 1) if hit]
        return sum(sum(hits[:place]) / place for place in places) / len(places)

    assert_same(ranked.average_precision(), slowly(*case, average_precision))
    assert_same(ranked.reciprocal_rank(), slowly(*case, lambda hits, _: 1 / (1 + hits.index(True))))


@given(cases())
def test_recall_and_coverage_are_one_when_k_is_the_number_of_categories(case: Case) -> None:
    ranked = metrics.rank(*case)
    everything = case[0].shape[1]
    with_label = ranked.relevant > 0
    assert (ranked.recall_at(everything)[with_label] == 1).all()
    assert (ranked.precision_at(everything)[with_label] == ranked.relevant[with_label] / everything).all()
    assert ranked.coverage_at(everything) == 1


@given(cases())
def test_labels_used_as_scores_rank_perfectly(case: Case) -> None:
    labels = case[1]
    ranked = metrics.rank(labels, labels)
    for figure in (ranked.ndcg_at(labels.shape[1]), ranked.average_precision(), ranked.reciprocal_rank()):
        assert_same(figure, [1.0 if user.any() else nan for user in labels])


# decisions


def test_micro_f1_sums_over_all_users() -> None:
    # at .5: four predicted, two of them right, three labels
    assert metrics.decision_counts(0.5, SCORES, LABELS).tolist() == [[1, 2, 2], [1, 2, 1]]
    assert metrics.micro_f1(0.5, SCORES, LABELS) == pytest.approx(2 * 2 / (4 + 3))
    assert metrics.micro_f1(1.1, SCORES, np.zeros_like(LABELS)) == 0.0


def test_macro_f1_is_the_mean_over_categories_with_a_label_or_a_prediction() -> None:
    # at .65: category 0 is right, 1 is predicted wrongly, 2 is missed, 3 is right
    assert metrics.macro_f1(0.65, SCORES, LABELS) == pytest.approx((1 + 0 + 0 + 1) / 4)
    # at .85: nobody has category 1 as a prediction or label, so it does not count
    assert metrics.macro_f1(0.85, SCORES, LABELS) == pytest.approx((1 + 0 + 0) / 3)
    assert metrics.macro_f1(1.1, SCORES, np.zeros_like(LABELS)) == 0.0


@given(cases(), st.integers(0, 101))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(case: Case, hundredths: int) -> None:
    scores, labels = case
    threshold = hundredths / 100

    def slow_f1(pairs: list[tuple[bool, bool]]) -> float:
        found = sum(decided and relevant for decided, relevant in pairs)
        if not found:
            return 0.0
        precision = found / sum(decided for decided, _ in pairs)
        recall = found / sum(relevant for _, relevant in pairs)
        return 2 * precision * recall / (precision + recall)

    by_category = [
        [(bool(scores[user, category] >= threshold), bool(labels[user, category])) for user in range(len(scores))]
        for category in range(scores.shape[1])
    ]
    micro = slow_f1([pair for pairs in by_category for pair in pairs])
    of_categories = [slow_f1(pairs) for pairs in by_category if any(decided or label for decided, label in pairs)]
    macro = sum(of_categories) / len(of_categories) if of_categories else 0.0
    assert metrics.micro_f1(threshold, scores, labels) == pytest.approx(micro)
    assert metrics.f1(metrics.decision_counts(threshold, scores, labels)) == pytest.approx(micro)
    assert metrics.macro_f1(threshold, scores, labels) == pytest.approx(macro)


def test_the_best_threshold_separates_labels_from_the_rest() -> None:
    threshold = metrics.best_threshold(np.array([[0.9, 0.61, 0.3]]), np.array([[1, 1, 0]], np.float32))
    assert threshold == pytest.approx(0.31)


@given(cases())
def test_the_best_threshold_is_the_lowest_with_the_highest_micro_f1(case: Case) -> None:
    thresholds = [float(threshold) for threshold in np.arange(0.01, 1.0, 0.01)]
    assert metrics.best_threshold(*case) == max(thresholds, key=lambda threshold: metrics.micro_f1(threshold, *case))


# probabilities


def test_reliability_compares_the_mean_score_of_a_bin_with_its_share_of_relevant_pairs() -> None:
    bins = metrics.reliability(SCORES.astype(np.float64).round(1), LABELS, bins=4)
    assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert bins.count.tolist() == [4, 0, 2, 2]
    assert_same(bins.mean_score, [0.15, nan, 0.65, 0.85])
    assert_same(bins.share_relevant, [1 / 4, nan, 1 / 2, 1 / 2])
    assert bins.expected_calibration_error() == pytest.approx((4 * 0.1 + 2 * 0.15 + 2 * 0.35) / 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_on_an_edge_belongs_to_the_lower_bin(dtype: type) -> None:
    edges = (np.arange(11) / 10).astype(dtype)[None]
    assert metrics.reliability(edges, np.ones_like(edges)).count.tolist() == [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_labels_used_as_scores_are_calibrated() -> None:
    assert metrics.reliability(LABELS, LABELS).expected_calibration_error() == 0
    assert metrics.reliability(1 - LABELS, LABELS).expected_calibration_error() == 1


@pytest.mark.parametrize("scores", [[[1.01]], [[-0.01]], [[]]])
def test_calibration_needs_probabilities(scores: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="calibration needs probabilities"):
        metrics.reliability(np.array(scores), np.zeros_like(scores, np.float32))


@given(cases(), st.integers(1, 12))
def test_reliability_equals_the_slow_implementation(case: Case, bins: int) -> None:
    scores, labels = case[0].astype(np.float64), case[1]
    pairs = list(zip(scores.ravel().tolist(), labels.ravel().tolist(), strict=True))
    found = metrics.reliability(scores, labels, bins)
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [pair for pair in pairs if low < pair[0] <= high or (number == 0 and pair[0] == 0)]
        assert found.count[number] == len(inside)
        if not inside:
            assert isnan(found.mean_score[number]) and isnan(found.share_relevant[number])
            continue
        mean_score, share = (sum(column) / len(inside) for column in zip(*inside, strict=True))
        assert found.mean_score[number] == pytest.approx(mean_score)
        assert found.share_relevant[number] == pytest.approx(share)
        error += len(inside) / len(pairs) * abs(share - mean_score)
    assert found.expected_calibration_error() == pytest.approx(error, abs=1e-12)


# uncertainty


def test_the_bootstrap_interval_of_zeros_and_ones_has_the_binomial_width() -> None:
    interval = metrics.bootstrap(np.tile([0.0, 1.0], 200), resamples=4000)
    half = 1.96 * (0.5 * 0.5 / 400) ** 0.5
    assert interval == pytest.approx((0.5 - half, 0.5 + half), abs=0.004)
    narrower = metrics.bootstrap(np.tile([0.0, 1.0], 200), resamples=4000, confidence=0.5)
    assert narrower.high - 0.5 == pytest.approx(half * 0.6745 / 1.96, abs=0.003)


def test_the_bootstrap_leaves_out_users_without_a_value() -> None:
    figure = np.array([0.2, 0.4, 0.9, 0.5])
    assert metrics.bootstrap(np.insert(figure, [0, 2, 4], nan)) == metrics.bootstrap(figure)
    with pytest.raises(ValueError, match="no user has a value"):
        metrics.bootstrap(np.full(3, nan))
    with pytest.raises(ValueError, match="no user has a value"):
        metrics.bootstrap(np.zeros((0, 3), np.int64), metrics.f1)


def test_the_bootstrap_depends_on_its_seed_only() -> None:
    figure = np.random.default_rng(1).random(30)
    assert metrics.bootstrap(figure, seed=3) == metrics.bootstrap(figure, seed=3) != metrics.bootstrap(figure, seed=4)


def test_the_same_seed_draws_the_same_users_for_two_methods() -> None:
    figure = np.random.default_rng(1).random(30)
    low, high = metrics.bootstrap(figure)
    assert metrics.bootstrap(figure + 1) == pytest.approx((low + 1, high + 1))
    # a method that is better by .1 for everybody is better by .1 for any draw of users
    assert metrics.bootstrap((figure + 0.1) - figure) == pytest.approx((0.1, 0.1))


def test_many_ratios_at_once_have_the_same_intervals_as_one_by_one() -> None:
    random = np.random.default_rng(2)
    parts, whole = random.random((40, 3)), random.integers(1, 9, 40).astype(np.float64)
    found = metrics.bootstrap_ratios(parts, whole, resamples=200, seed=5)
    for figure, interval in zip(parts.T, found, strict=True):
        rows = np.stack([figure, whole], axis=1)
        alone = metrics.bootstrap(rows, lambda some: some[:, 0].sum() / some[:, 1].sum(), resamples=200, seed=5)
        assert interval == pytest.approx(alone)
    with pytest.raises(ValueError, match="no user has a value"):
        metrics.bootstrap_ratios(np.zeros((0, 3)), np.zeros(0))


def test_the_bootstrap_interval_of_one_user_is_a_point() -> None:
    assert metrics.bootstrap(np.array([0.3])) == (0.3, 0.3)


@given(cases(), st.integers(0, 5))
def test_the_bootstrap_of_f1_equals_f1_of_the_drawn_users(case: Case, seed: int) -> None:
    scores, labels = case
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(scores), size=len(scores)) for _ in range(20)]
    figures = [metrics.micro_f1(0.5, scores[users], labels[users]) for users in drawn]
    interval = metrics.bootstrap(metrics.decision_counts(0.5, scores, labels), metrics.f1, resamples=20, seed=seed)
    assert interval == pytest.approx((np.quantile(figures, 0.025), np.quantile(figures, 0.975)))
