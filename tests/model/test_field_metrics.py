"""Metrics by field equal values computed by hand."""

from math import isnan, log2, nan

import numpy as np
import pytest

from model import field_metrics
from model.metrics import rank

FIELDS = [[0, 1, 2], [3, 4]]
# Three targets. The first has label 1, second best of its field, and label 3, the best. The second has label 2 and nothing of field 2.
SCORES = np.array([[0.6, 0.3, 0.1, 0.9, 0.1], [0.5, 0.3, 0.2, 0.4, 0.6], [0.2, 0.2, 0.6, 0.5, 0.5]])
LABELS = np.array([[0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 1]], bool)
RANKS = field_metrics.ranks(SCORES, LABELS, FIELDS)


def test_the_rank_is_the_number_of_higher_scores_in_the_field() -> None:
    assert np.array_equal(RANKS, [[1, 0], [2, nan], [1, 0]], equal_nan=True)


def test_a_hit_is_a_category_among_the_best_of_its_field() -> None:
    assert np.array_equal(field_metrics.hits_at(1, RANKS), [[0, 1], [0, nan], [0, 1]], equal_nan=True)
    assert np.array_equal(field_metrics.hits_at(2, RANKS), [[1, 1], [0, nan], [1, 1]], equal_nan=True)
    assert field_metrics.macro(field_metrics.hits_at(1, RANKS)).tolist() == [0.5, 0, 0.5]
    assert field_metrics.by_field(field_metrics.hits_at(2, RANKS)) == pytest.approx([2 / 3, 1])


def test_the_gain_is_ndcg_of_one_relevant_category() -> None:
    gains = field_metrics.gains_at(2, RANKS)
    assert np.array_equal(gains, [[1 / log2(3), 1], [0, nan], [1 / log2(3), 1]], equal_nan=True)
    for number, columns in enumerate(FIELDS):
        expected = rank(SCORES[:2, columns], LABELS[:2, columns]).ndcg_at(2)
        assert np.allclose(gains[:2, number], expected, equal_nan=True)


def test_bits_are_the_surprise_at_the_category() -> None:
    found = field_metrics.bits(SCORES, LABELS, FIELDS)
    assert np.allclose(found[0], [-log2(0.3), -log2(0.9)])
    assert isnan(found[1, 1])
    assert field_metrics.bits(np.zeros((1, 5)), LABELS[:1], FIELDS)[0, 0] == pytest.approx(-log2(1e-12)), (
        "never infinite"
    )


def test_scores_are_divided_by_their_sum_in_each_field_only() -> None:
    found = field_metrics.within_fields(np.array([[0.2, 0.2, 0.4, 0, 0, 7]], np.float32), FIELDS)
    assert np.allclose(found, [[0.25, 0.25, 0.5, 0.5, 0.5, 7]])


def test_the_calibration_error_is_the_distance_of_confidence_and_hits_of_the_best_category() -> None:
    scores = np.array([[0.75, 0.25]] * 4)
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    confidence, right = field_metrics.best_of(scores, labels, [[0, 1]])
    assert confidence[:, 0].tolist() == [0.75] * 4
    assert right[:, 0].tolist() == [1, 1, 0, 0]
    assert field_metrics.calibration_errors(confidence, right) == pytest.approx([0.25])
    nothing = field_metrics.best_of(scores, np.zeros((4, 2), bool), [[0, 1]])
    assert isnan(field_metrics.calibration_errors(*nothing)[0])


def test_methods_are_compared_on_the_targets_that_both_know_with_all_of_a_user_together() -> None:
    ours, theirs = np.array([1.0, 1, 0, nan, 1]), np.array([0.0, 1, 0, 1, nan])
    users = np.array([0, 0, 1, 1, 1])
    found = field_metrics.paired(ours, theirs, users)
    assert found.difference == pytest.approx(1 / 3)
    assert (found.low, found.high) == (0, 0.5), "two users: one has 1 of 2, the other 0 of 1"
    assert not found.more_than_chance
    always = field_metrics.paired(np.ones(50), np.zeros(50), np.arange(50))
    assert always == (1, 1, 1)
    assert always.more_than_chance
    with pytest.raises(ValueError, match="no user has a value"):
        field_metrics.paired(np.array([nan]), np.array([1.0]), np.array([0]))


def test_many_purchases_of_one_user_do_not_narrow_the_interval() -> None:
    chance = np.random.default_rng(0)
    of_user = chance.normal(size=20)
    once, often = np.arange(20), np.repeat(np.arange(20), 30)
    narrow = field_metrics.interval(of_user, once)
    assert field_metrics.interval(of_user[often], often) == pytest.approx(narrow)


def test_nan_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 scores are NaN"):
        field_metrics.ranks(np.array([[nan, 1.0]]), np.ones((1, 2), bool), [[0, 1]])
    with pytest.raises(ValueError, match="same shape"):
        field_metrics.ranks(np.ones((1, 2)), np.ones((1, 3), bool), [[0, 1]])
