"""Interests of a bag: clusters by Ward, with a medoid and a weight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.item_search.interests import ALIKE, find_interests, unit

CENTRES = np.eye(5, 8, dtype=np.float32)


def around(counts: list[int], noise: float = 0.1) -> tuple[NDArray[np.float32], list[int]]:
    """Items around some centres, in random order, and the centre of each."""
    rng = np.random.default_rng(0)
    of = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return (CENTRES[of] + noise * rng.standard_normal((len(of), 8))).astype(np.float32), of.tolist()


def uniform(count: int) -> NDArray[np.float32]:
    return np.full(count, 1 / count, np.float32)


def test_items_around_three_centres_are_three_interests_the_heaviest_first() -> None:
    rows, of = around([5, 12, 3])
    found = find_interests(rows, uniform(20), 5)
    assert [{of[item] for item in interest.members} for interest in found] == [{1}, {0}, {2}]
    assert [interest.weight for interest in found] == pytest.approx([12 / 20, 5 / 20, 3 / 20])


def test_with_fewer_interests_the_heavy_ones_stay_apart() -> None:
    """An item without attention joins an interest. Unweighted clustering would keep the outlier alone."""
    rows, of = around([6, 6, 1])
    attention = np.where(np.array(of) == 2, 0, 1 / 12).astype(np.float32)
    found = find_interests(rows, attention, 2)
    assert [{of[item] for item in interest.members} - {2} for interest in found] in ([{0}, {1}], [{1}, {0}])


def test_the_medoid_is_the_item_that_is_nearest_to_all_by_weight() -> None:
    angles = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert find_interests(rows, uniform(5), 1)[0].medoid == 2
    assert find_interests(rows, np.array([0.8, 0.05, 0.05, 0.05, 0.05], np.float32), 1)[0].medoid == 0


def test_copies_are_one_interest_however_many_are_allowed() -> None:
    rows = np.repeat(CENTRES[:2], [4, 3], axis=0)
    found = find_interests(rows, uniform(7), 7)
    assert [interest.members.tolist() for interest in found] == [[0, 1, 2, 3], [4, 5, 6]]
    assert [interest.medoid for interest in found] == [0, 4]


def test_each_merge_loses_least() -> None:
    """Ward's criterion by its definition: the growth of the weighted squared distances to the centres."""
    rng = np.random.default_rng(5)
    rows, weights = rng.standard_normal((9, 8)).astype(np.float32), rng.random(9).astype(np.float32)
    units = unit(rows).astype(np.float64)

    def scatter(members: tuple[int, ...]) -> float:
        own, weight = units[list(members)], weights[list(members), None].astype(np.float64)
        return float((weight * (own - (weight * own).sum(axis=0) / weight.sum()) ** 2).sum())

    clusters: set[tuple[int, ...]] = {(item,) for item in range(9)}
    for count in range(8, 0, -1):
        pairs = [(a, b) for a in clusters for b in clusters if a < b]
        a, b = min(pairs, key=lambda pair: scatter(pair[0] + pair[1]) - scatter(pair[0]) - scatter(pair[1]))
        clusters = (clusters - {a, b}) | {tuple(sorted(a + b))}
        found = find_interests(rows, weights, count)
        assert {tuple(interest.members.tolist()) for interest in found} == clusters


bags = st.integers(1, 64).flatmap(
    lambda size: st.tuples(st.integers(0, 2**32 - 1), st.just(size), st.integers(1, 8), st.integers(1, 5))
)


@settings(max_examples=60, deadline=None)
@given(bags)
def test_interests_share_out_the_bag(bag: tuple[int, int, int, int]) -> None:
    seed, size, count, kinds = bag
    rng = np.random.default_rng(seed)
    rows = (CENTRES[rng.integers(0, kinds, size)] + 0.3 * rng.standard_normal((size, 8))).astype(np.float32)
    attention = rng.dirichlet(np.ones(size)).astype(np.float32)
    found = find_interests(rows, attention, count)
    assert 1 <= len(found) <= count
    assert sorted(item for interest in found for item in interest.members.tolist()) == list(range(size))
    assert all(interest.medoid in interest.members for interest in found)
    assert sum(interest.weight for interest in found) == pytest.approx(1, abs=1e-5)
    assert [interest.weight for interest in found] == sorted((one.weight for one in found), reverse=True)
    again = find_interests(rows, attention, count)
    assert [(one.medoid, one.members.tolist()) for one in again] == [
        (one.medoid, one.members.tolist()) for one in found
    ]
    order = rng.permutation(size)
    moved = find_interests(rows[order], attention[order], count)
    assert {frozenset(order[one.members].tolist()) for one in moved} == {
        frozenset(one.members.tolist()) for one in found
    }
    assert ALIKE > 0


@pytest.mark.parametrize("zero", [0, 2])
def test_items_without_direction_or_attention_are_no_error(zero: int) -> None:
    rows = CENTRES[:3].copy()
    rows[zero] = 0
    found = find_interests(rows, np.zeros(3, np.float32), 3)
    assert sorted(item for interest in found for item in interest.members.tolist()) == [0, 1, 2]


def test_a_bag_without_items_has_no_interest() -> None:
    assert find_interests(np.zeros((0, 8), np.float32), np.zeros(0, np.float32), 3) == []


@pytest.mark.parametrize(("attention", "count"), [(np.ones(2, np.float32), 1), (np.ones(3, np.float32), 0)])
def test_wrong_arguments_are_refused(attention: NDArray[np.float32], count: int) -> None:
    with pytest.raises(ValueError, match="found"):
        find_interests(CENTRES[:3], attention, count)
