"""A kind is right, near or wrong, and mistakes are shown class by class."""

from pathlib import Path

import pytest

from offline_training.bundles.kinds.measuring import Named, figures, mistakes
from offline_training.bundles.kinds.table import read_categories
from offline_training.embedders.training_data.pictures import LabelledPicture


def photo(category: str, *kinds: str) -> Named:
    picture = LabelledPicture(Path("a.jpg"), "a.jpg", category, "made", "test")
    return Named(picture, list(kinds), read_categories()[category])


@pytest.mark.parametrize(
    ("named", "right", "near"),
    [
        (photo("shoes", "footwear", "lighting", "baby"), (True, True), (True, True)),
        (photo("shoes", "lighting", "baby", "footwear"), (False, True), (False, True)),
        (photo("shirt", "coats and suits", "baby", "lighting"), (False, False), (True, True)),
        (photo("apple", "lighting", "drinks", "baby"), (False, False), (False, True)),
        (photo("milk", "packaged food", "baby", "lighting"), (True, True), (True, True)),
        (photo("hat", "lighting", "baby", "footwear"), (False, False), (False, False)),
    ],
)
def test_a_kind_is_right_or_near_among_the_first(
    named: Named, right: tuple[bool, bool], near: tuple[bool, bool]
) -> None:
    assert tuple(named.hit(k, near=False) for k in (1, 3)) == right
    assert tuple(named.hit(k, near=True) for k in (1, 3)) == near


def test_figures_are_shares_of_the_photos() -> None:
    photos = [photo("shoes", "footwear", "a", "b"), photo("shoes", "a", "b", "footwear"), photo("hat", "a", "b", "c")]
    measured = figures([*photos, photo("hat", "fashion accessories", "a", "b")])
    assert (measured["kind@1"], measured["kind@3"]) == (0.25, 0.5)
    assert (measured["near kind@1"], measured["near kind@3"]) == (0.5, 0.75)
    assert measured["near kind@3 low"] < 0.75 < measured["near kind@3 high"]
    assert measured["photos"] == 4


def test_mistakes_come_from_all_classes_by_turns() -> None:
    photos = [photo("hat", "a", "b", str(number)) for number in range(3)]
    photos += [photo("shoes", "a", "b", "c"), photo("shoes", "footwear", "b", "c")]
    assert [one.picture.category for one in mistakes(photos, 3)] == ["hat", "shoes", "hat"]
    assert len(mistakes(photos, 9)) == 4
