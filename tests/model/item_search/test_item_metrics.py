"""Metrics of ranked items."""

import numpy as np

from model.item_search.item_metrics import FIGURES, LISTED, NOT_LISTED, figures, ranks_of


def test_the_rank_is_the_place_in_the_list() -> None:
    assert ranks_of([7, 3, 9], np.array([9, 7, 1])).tolist() == [2, 0, NOT_LISTED]


def test_what_is_behind_the_list_or_comes_twice_does_not_count() -> None:
    listed = [5, 5, *range(100, 100 + LISTED)]
    assert ranks_of(listed, np.array([5, 100, 100 + LISTED - 1])).tolist() == [0, 2, NOT_LISTED]


def test_the_figures_of_some_ranks() -> None:
    found = figures(np.array([0, 3, 11, 12, 99, NOT_LISTED]))
    assert [found[name].tolist() for name in FIGURES] == [
        [1, 1, 1, 0, 0, 0],
        [1, 1 / 4, 1 / 12, 0, 0, 0],
        [1, 1, 1, 1, 1, 0],
    ]
