"""What was taken, item by item: on strictly earlier days, in a window, and by those who have the same items."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.item_search.vectors import unit
from offline_training.tasks.item_baselines import CoPurchases, ItemCounts, best, like_the_last
from offline_training.tasks.purchases import Taken, make_taken


def taken(*touches: tuple[str, int, int]) -> Taken:
    """Purchases: user, day, item."""
    names = sorted({user for user, _, _ in touches})
    return make_taken(
        names,
        user=np.array([names.index(user) for user, _, _ in touches]),
        day=np.array([day for _, day, _ in touches]),
        row=np.array([item for _, _, item in touches]),
        weight=np.full(len(touches), 100),
        bought=np.ones(len(touches), bool),
        apart=np.zeros(len(names), bool),
    )


SHOP = taken(
    ("ada", 10, 0),
    ("ada", 10, 1),
    ("bob", 12, 0),
    ("bob", 30, 2),
    ("cyd", 31, 0),
    ("cyd", 31, 3),
    ("dan", 5, 4),
    ("dan", 31, 0),
)


def test_only_strictly_earlier_days_in_the_window_count() -> None:
    counts = ItemCounts(SHOP, 5)
    assert counts.before(31, None).tolist() == [2, 1, 1, 0, 1]
    assert counts.before(31, 7).tolist() == [0, 0, 1, 0, 0]
    assert counts.before(37, 7).tolist() == [2, 0, 1, 1, 0]
    assert counts.before(38, 7).tolist() == [2, 0, 0, 1, 0]
    assert counts.before(10, None).tolist() == [0, 0, 0, 0, 1]


def test_others_of_an_item_of_the_bag_vote_for_what_they_took_before_the_day() -> None:
    together, counts = CoPurchases(SHOP, 5), ItemCounts(SHOP, 5)
    bag = np.array([0], np.int32)
    scores = together.scores(99, 31, bag, counts.before(31, None))
    assert scores[1] == pytest.approx(1 / np.sqrt(2))  # ada's, with 1 / sqrt(2 * 1)
    assert scores[2] == pytest.approx(1 / np.sqrt(2))  # bob's
    assert scores[3] == scores[4] == 0  # cyd's are of that day, and dan has item 0 from that day on
    assert together.scores(1, 31, bag, counts.before(31, None))[2] == 0  # bob does not vote for himself


def test_the_nearest_picture_is_the_item_itself_and_then_the_most_similar() -> None:
    units = unit(np.array([[1, 0], [0, 1], [0.9, 0.1]], np.float32))
    assert best(like_the_last(units, 0), np.zeros(3, np.float32), np.array([0], np.int32)).tolist() == [2, 1]


def test_equal_scores_are_sorted_by_what_is_behind_then_by_place() -> None:
    behind = np.array([0, 5, 0, 9], np.float32)
    assert best(np.array([1, 0, 1, 0], np.float32), behind, np.zeros(0, np.int32)).tolist() == [0, 2, 3, 1]
