"""A list of categories that was written as text is a list again. Nothing of it is evaluated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline_training.datasets.formats.amazon import paths_of
from offline_training.datasets.formats.list_text import list_in
from offline_training.datasets.formats.tables import paths_in
from tests.offline_training.datasets.test_prepare import prepared

NAMES = ["Women's", 'the "best"', "a, b", "Été", "back\\slash", "[Sale]"]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("['Women', 'Shoes']", (("Women",), ("Shoes",))),
        ('["Women", "Shoes"]', (("Women",), ("Shoes",))),
        ("['Women > Shoes', 'Sale']", (("Women", "Shoes"), ("Sale",))),
        ("[['Women', 'Shoes'], ['Sale']]", (("Women", "Shoes"), ("Sale",))),
        ('[["Women", "Shoes"]]', (("Women", "Shoes"),)),
        ("('Women', 'Shoes')", (("Women",), ("Shoes",))),
        ("['Women' 'Shoes'\n 'Sale']", (("Women",), ("Shoes",), ("Sale",))),
        ("[array(['Women', 'Shoes'], dtype=object)]", (("Women", "Shoes"),)),
        ("[u'Women', None, nan]", (("Women",),)),
        ("[null, 'Women']", (("Women",),)),
        (" [ 'Women' , ] ", (("Women",),)),
        (r"['It\'s', '\u00c9t\xe9']", (("It's",), ("Été",))),
        (r'["\ud83d\ude00"]', (("😀",),)),
        ("[]", ()),
        ("[Sale] Hats", (("[Sale] Hats",),)),
        ("(new) Hats|Bags", (("(new) Hats",), ("Bags",))),
    ],
)
def test_the_text_of_a_list_is_read_as_the_list(text: str, paths: Any) -> None:
    assert paths_in(text) == paths


WRITTEN = (repr(NAMES), json.dumps(NAMES), str(tuple(NAMES)), str(np.array(NAMES, object)))


@pytest.mark.parametrize("text", WRITTEN, ids=("Python", "JSON", "tuple", "numpy"))
def test_names_with_quotes_and_commas_survive(text: str) -> None:
    assert list_in(text) == NAMES


@pytest.mark.parametrize(
    "text",
    ["['Women', 'Sho", "['Women'", "['Women'] Shoes", "['Women')", "[['a'], 'b'", "[__import__('os')]", "['a', 1 + 1]",
     "[" * 5000 + "]" * 5000, "[['" + "a" * 100_000 + "']]", "['a'].clear()", "['a'] ['b']"],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_text_that_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list_in(text)


def test_an_unreadable_list_is_counted_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item,image,categories\n1,1.jpg,\"['Women', 'Shoes']\"\n2,2.jpg,\"['Men', 'Sho\"\n3,3.jpg,\"['Men' 'Shoes']\"\n"
    )
    command = ("tables", "--items", tmp_path / "items.csv", "--out", tmp_path / "out", "--min-items", 1)
    summary, _, items = prepared(*command)
    assert summary.labels == {"Women": 1, "Men": 1}  # both have Shoes, so it is no label
    assert items.keys() == {"1", "3"}
    assert summary.dropped == {"categories_not_readable": 1, "item_without_category": 1}
    assert summary.examples["categories_not_readable"] == "2: \"['Men', 'Sho\""


def test_categories_of_metadata_may_be_the_text_of_a_list() -> None:
    assert paths_of({"categories": "['Women', 'Shoes']"}) == (("Women", "Shoes"),)
    assert paths_of({"categories": "[['Women', 'Shoes'], ['Sale']]"}) == (("Women", "Shoes"), ("Sale",))
    assert paths_of({"categories": "['Women', 'Sho"}) == ()
