"""The moments at which an aggregator that uses the trend answers."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.tasks import situations
from offline_training.tasks.purchases import Contexts

VIEW = np.float32(np.log(0.3))


def contexts() -> Contexts:
    """Three users: one without a bag who buys 1 and 2; one with 3, 4 who buys 3, 5 and 6; one with 7 who buys 8."""
    return Contexts(
        user=np.array([0, 1, 2], np.int32),
        day=np.array([10, 10, 20], np.int32),
        starts=np.array([0, 0, 2, 3]),
        rows=np.array([3, 4, 7], np.int32),
        log_weight=np.zeros(3, np.float32),
        ages=np.array([9, 4, 6], np.float32),
        targets=np.array([1, 2, 3, 5, 6, 8], np.int32),
        of_target=np.array([0, 0, 1, 1, 1, 2]),
    )


def bag(found: Contexts, number: int) -> dict[int, tuple[float, float]]:
    items = slice(found.starts[number], found.starts[number + 1])
    return {
        int(row): (float(weight), float(age))
        for row, weight, age in zip(found.rows[items], found.log_weight[items], found.ages[items], strict=True)
    }


def test_a_read_has_the_ages_of_the_purchase_and_an_item() -> None:
    found = situations.read(contexts())
    assert found.user.tolist() == [1, 2]
    assert found.ages.tolist() == [9, 4, 6]


def test_what_was_published_has_the_ages_and_the_day_of_the_newest_item() -> None:
    found = situations.published(contexts())
    assert found.day.tolist() == [6, 14]
    assert found.ages.tolist() == [5, 0, 0]
    assert found.targets.tolist() == [3, 5, 6, 8]


def test_a_session_shows_purchases_as_viewed_now_and_asks_for_the_others() -> None:
    for seed in range(10):
        found = situations.session(contexts(), seed=seed)
        assert found.user.tolist() == [0, 1], "one purchase leaves nothing to ask for"
        for number, bought in enumerate(({1, 2}, {3, 5, 6})):
            asked = set(found.targets[found.of_target == number].tolist())
            shown = {row for row, (_, age) in bag(found, number).items() if age == 0}
            assert shown | asked == bought
            assert not shown & asked
            assert asked


def test_an_item_of_the_bag_that_is_viewed_again_keeps_its_strongest_type() -> None:
    kinds = {bag(situations.session(contexts(), seed=seed, viewed=2), 1).get(3) for seed in range(20)}
    assert kinds == {(0, 9), (0, 0)}, "as in a bag, where the newest moment counts and the strongest type"


def test_noise_is_what_others_buy_on_that_day_and_no_target() -> None:
    seen: set[int] = set()
    for seed in range(30):
        found = situations.session(contexts(), seed=seed, viewed=1, noise=3)
        shown = {row for row, (_, age) in bag(found, 0).items() if age == 0}
        asked = set(found.targets[found.of_target == 0].tolist())
        assert not shown & asked
        assert len(asked) == 1, "noise takes no target away"
        seen |= shown
    assert seen == {1, 2, 3, 5, 6}, "8 was bought on another day"


def test_joined_contexts_are_those_of_the_parts() -> None:
    one, other = contexts(), situations.session(contexts(), seed=0)
    both = situations.joined([one, other])
    assert len(both.day) == len(one.day) + len(other.day)
    for number in range(len(other.day)):
        assert bag(both, len(one.day) + number) == bag(other, number)
        at = len(one.day) + number
        assert both.targets[both.of_target == at].tolist() == other.targets[other.of_target == number].tolist()
