"""The textbook's figures, on rankings small enough to do by hand."""

import numpy as np
import pytest

from model import metrics

# ranked best first: user 0 has 0, 1, 2, 3; user 1 has 3, 2, 1, 0
SCORES = np.array([[0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.6, 0.7]], np.float32)
LABELS = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], np.float32)


def test_recall_counts_what_was_relevant() -> None:
    assert metrics.recall_at(1, SCORES, LABELS) == pytest.approx((1 / 2 + 1 / 1) / 2)
    assert metrics.recall_at(3, SCORES, LABELS) == pytest.approx(1.0)


def test_precision_divides_by_k() -> None:
    assert metrics.precision_at(2, SCORES, LABELS) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert metrics.precision_at(3, SCORES, LABELS) == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_average_precision_is_taken_at_the_ranks_of_the_hits() -> None:
    assert metrics.mean_average_precision(SCORES, LABELS) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_micro_f1_counts_decisions_over_all_users() -> None:
    # at .5 four are decided, two of them right, of three labels
    assert metrics.micro_f1(0.5, SCORES, LABELS) == pytest.approx(2 * 2 / (4 + 3))
    assert metrics.micro_f1(1.1, SCORES, np.zeros_like(LABELS)) == 0.0


def test_the_best_threshold_parts_labels_from_the_rest() -> None:
    threshold = metrics.best_threshold(np.array([[0.9, 0.61, 0.3]]), np.array([[1, 1, 0]], np.float32))
    assert 0.3 < threshold <= 0.61


def test_users_without_labels_do_not_count_in_recall() -> None:
    scores, labels = np.vstack([SCORES, SCORES[:1]]), np.vstack([LABELS, np.zeros((1, 4), np.float32)])
    assert metrics.recall_at(1, scores, labels) == metrics.recall_at(1, SCORES, LABELS)
    with pytest.raises(ValueError, match="no user has a label"):
        metrics.recall_at(1, SCORES, np.zeros_like(LABELS))


def test_k_must_be_a_number_of_categories() -> None:
    with pytest.raises(ValueError, match="k = 5: expected 1 to 4"):
        metrics.precision_at(5, SCORES, LABELS)
