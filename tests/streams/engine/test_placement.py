"""Each partition goes to one worker: one that has its bags, if there is one, and the same as before if the shares are equal."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.placement import held_back, place

EVERYTHING = range(6)


def sizes(placed: dict[str, list[int]]) -> list[int]:
    return sorted(map(len, placed.values()))


def test_partitions_stay_where_they_are() -> None:
    owned = {"a": [4, 5, 0], "b": [1, 2, 3]}
    assert place(6, owned, {"a": EVERYTHING, "b": EVERYTHING}) == {"a": [0, 4, 5], "b": [1, 2, 3]}


def test_those_of_a_worker_that_died_go_to_the_warm_ones_evenly() -> None:
    placed = place(6, {"a": [0, 1], "b": [2, 3]}, {"a": EVERYTHING, "b": EVERYTHING})
    assert sizes(placed) == [3, 3]
    assert {0, 1} < set(placed["a"])
    assert {2, 3} < set(placed["b"])


def test_a_worker_without_bags_gets_nothing_until_it_has_them() -> None:
    owned: dict[str, Collection[int]] = {"a": EVERYTHING, "new": []}
    placed = place(6, owned, {"a": EVERYTHING, "new": []})
    assert placed == {"a": list(EVERYTHING), "new": []}
    assert held_back(placed) == {"new"}
    placed = place(6, owned, {"a": EVERYTHING, "new": EVERYTHING})
    assert sizes(placed) == [3, 3]
    assert held_back(placed) == set()


def test_bags_that_nobody_has_are_spread_over_all() -> None:
    nobody: dict[str, Collection[int]] = {"a": [], "b": [], "c": []}
    placed = place(6, nobody, nobody)
    assert sizes(placed) == [2, 2, 2]
    assert held_back(placed) == set()


def test_a_worker_that_does_not_say_what_it_has_gets_its_share() -> None:
    assert sizes(place(6, {"a": EVERYTHING, "early": []}, {"a": EVERYTHING, "early": None})) == [3, 3]


numbers = st.sets(st.integers(0, 7))


@pytest.mark.parametrize("partitions", [1, 5, 8])
@given(members=st.dictionaries(st.sampled_from("abcde"), st.tuples(numbers, numbers | st.none()), min_size=1))
def test_each_partition_is_placed_once_and_only_where_it_is_warm_if_it_is_anywhere(
    partitions: int, members: dict[str, tuple[set[int], set[int] | None]]
) -> None:
    owned = {one: had for one, (had, _) in members.items()}
    warm = {one: has for one, (_, has) in members.items()}
    placed = place(partitions, owned, warm)
    assert sorted(number for some in placed.values() for number in some) == list(range(partitions))
    for one, some in placed.items():
        for number in some:
            able = {
                other for other, has in warm.items() if has is None or number in has or number in owned[other]
            } or set(members)
            assert one in able
            assert all(len(some) - len(placed[other]) <= 1 for other in able)
