"""What a worker says of its two bundles at a start."""

from copy import copy

import pytest

from model.bundle import Bundle
from streams.bundles import Bundles, category_changes


def named(name: str, *categories: str) -> Bundle:
    bundle = copy(Bundle.load())
    bundle.name, bundle.categories = name, categories
    return bundle


def test_the_bundles_are_named_by_their_roles() -> None:
    served, following = named("ours"), named("new")
    assert str(Bundles(served)) == f"bundle ours {served.version}"
    assert str(Bundles(served, following)) == f"bundle ours {served.version}, next bundle new {served.version}"


@pytest.mark.parametrize(
    ("following", "said"),
    [
        (None, ""),
        (("hat", "shoe"), ""),
        (("shoe", "hat"), ""),
        (("hat", "shoe", "tie"), "1 more (tie)"),
        (("hat",), "1 gone (shoe)"),
        (("a", "b", "c", "d", "e", "f", "hat"), "6 more (a, b, c, d, e, ...), 1 gone (shoe)"),
    ],
)
def test_other_categories_of_the_next_bundle_are_said(following: tuple[str, ...] | None, said: str) -> None:
    bundles = Bundles(named("ours", "hat", "shoe"), named("new", *following) if following else None)
    assert category_changes(bundles) == (said and f"NEXT_BUNDLE has other categories than BUNDLE: {said}")
