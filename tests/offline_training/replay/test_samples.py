"""Sample users are shown with what was known when they bought something."""

import numpy as np
import pytest

from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.evaluation.prequential import MeasuredTargets, Rules
from offline_training.replay.evaluation.samples import STEPS, USERS, SamplePoint, choose, sample
from offline_training.replay.play.events import PlayedItem
from streams.messages import CategoryScore, ItemAttention, Model, Recommendation, as_datetime
from tests.offline_training.replay.test_prequential import LABELS, answered, measured, stream

ITEMS = {
    "hat": PlayedItem(0, PictureRef("hat.jpg"), ("hats", "felt", "unheard of")),
    "tie": PlayedItem(1, None, ("ties",)),
}
KNOWN = {"hats", "felt", "ties", "shoes"}


def message(bag_size: int) -> Recommendation:
    return Recommendation(
        user_id="ada", event_id="e", timestamp=as_datetime(0), produced_at=as_datetime(0), model=Model("hats", "2"),
        bag_size=bag_size, cold_start=False, categories=[CategoryScore("shoes", 0.75), CategoryScore("felt", 0.5)],
        attention=[ItemAttention("tie", 0.7), ItemAttention("hat", 0.3)],
    )  # fmt: skip


def a_day(found: MeasuredTargets) -> list[list[int]]:
    return [rows.tolist() for _, moments in choose(found) for rows in moments]


def test_a_point_has_everything_that_was_bought_at_that_time() -> None:
    events = stream(
        ("ada", "tie", "view", 10), ("ada", "hat", "purchase", 20), ("ada", "tie", "purchase", 20), ("bob", "hat", "purchase", 30)
    )  # fmt: skip
    found = measured(events, answered(4, p0=[1]), Rules(ks=(1, 2)), LABELS)
    assert a_day(found) == [[0, 1]], "bob has no bag"
    [one] = sample(found, choose(found), {one.place: one for one in events}, {0: message(1)}, items=ITEMS, known=KNOWN)
    assert (one.user, one.events, one.targets) == ("ada", 3, 2)
    [moment] = one.moments
    assert moment.bought == ["hat", "tie"]
    assert [(guess.category, guess.right) for guess in moment.guesses] == [("shoes", False), ("felt", True)]
    assert moment.missed == ["hats", "ties"], "known ones only"
    assert (moment.time, moment.age, moment.attention) == (20, 10, [("tie", 0.7), ("hat", 0.3)])
    assert not moment.alike
    assert SamplePoint(0, 0, 2, [("a", 0.5), ("b", 0.5)], [], [], []).alike


@pytest.mark.parametrize("known", [{}, {0: message(2)}])
def test_a_user_whose_bags_have_changed_is_left_out(known: dict[int, Recommendation]) -> None:
    events = stream(("ada", "tie", "view", 10), ("ada", "hat", "purchase", 20))
    found = measured(events, answered(2, p0=[1]), Rules(ks=(1, 2)), LABELS)
    by_place = {one.place: one for one in events}
    assert sample(found, choose(found), by_place, known, items=ITEMS, known=KNOWN) == []


def test_users_with_several_points_come_first_and_points_are_spread_over_the_history() -> None:
    rows = [
        (f"user-{user}", "hat", "purchase", 10 * time + user)
        for time in range(20)
        for user in range(6)
        if time < 2 or user < 3
    ]
    events = stream(*sorted(rows, key=lambda row: row[3]))
    found = measured(
        events, answered(len(events), **{f"p{n}": [1] for n in range(len(events))}), Rules(ks=(1, 2)), LABELS
    )
    chosen = choose(found)
    assert len(chosen) == USERS
    lengths = [len(moments) for _, moments in chosen]
    assert lengths == [STEPS, STEPS, STEPS, 1]
    first = np.concatenate(chosen[0][1])
    times = found.times[found.users == chosen[0][0]]
    assert found.times[first].tolist()[::4] == [times[1], times[-1]], "the first with a bag, and the last"
    assert choose(found)[0][0] == chosen[0][0], "the same users each time"
