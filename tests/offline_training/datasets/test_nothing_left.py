"""A run that drops every event ends with exit code 1 and one line with the reasons and an example of each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.offline_training.datasets.test_dvbpr import parts
from tests.offline_training.datasets.test_prepare import run

ITEMS = "item,image,categories\n1,1.jpg,a\n2,2.jpg,b\n"
FIELDS = "product_type_name,product_group_name,colour_group_name,index_name,section_name,garment_group_name"
META = {"asin": "B1", "imUrl": "http://a/1.jpg", "categories": [["a", "b"]]}
REVIEW = {"reviewerID": "u", "asin": "B1", "overall": 5, "unixReviewTime": 1393372800}


def reasons(command: str, folder: Path, *arguments: object) -> str:
    """Run a command that fails; the one line that it prints."""
    done = run(command, *arguments, "--out", folder / "out", "--min-items", 1)
    assert done.exit_code == 1, done.output
    assert not (folder / "out" / "dataset.json").exists()
    [line] = [one for one in done.output.splitlines() if one.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ("user,item,time\nann,1,never\nbob,2,1\n", "event_without_time 1, the first: ann 1: 'never' is not a time"),
        ("user,item,time\nann,1,never\nbob,2,1\n", "event_time_out_of_range 1, the first: bob 2: '1' is not between 1990"),
        ("user,item,type,time\nann,1,stare,2019-10-01\n", "event_of_unknown_type 1, the first: ann 1: 'stare'"),
        ("user,item,time\n,1,2019-10-01\n", "event_without_user_or_item 1, the first: user '', item '1'"),
        ("user,item,time\nann,1\n", "broken_line 1, the first: events.csv: ['ann', '1']"),
        ("user,item,time\nann,9,2019-10-01\n", "item_not_described 1, the first: 9"),
        ("user,item,time\n", "events.csv: expected rows below the header, found none"),
        ("", "events.csv: expected a column user"),
    ],
)  # fmt: skip
def test_tables_without_a_usable_event(tmp_path: Path, events: str, told: str) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events.csv").write_text(events)
    assert told in reasons("tables", tmp_path, "--items", tmp_path / "items.csv", "--events", tmp_path / "events.csv")


def test_events_whose_items_are_all_left_out(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,image,categories\n1,,a\n2,2.jpg,b\n")
    (tmp_path / "events.csv").write_text("user,item,time\nann,1,2019-10-01\n")
    arguments = ("--items", tmp_path / "items.csv", "--events", tmp_path / "events.csv", "--untouched")
    line = reasons("tables", tmp_path, *arguments)
    assert "no event of an item with a picture and a label" in line
    assert "event_of_item_left_out 1, the first: ann 1" in line
    assert "item_without_picture 1, the first: 1" in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unixReviewTime": 5}, "event_time_out_of_range 1"),
        ({"overall": True}, "review_without_rating 1, the first: u B1: rating True"),
        ({"overall": 9}, "review_without_rating 1"),
    ],
)
def test_reviews_without_a_usable_event(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    (tmp_path / "m.json").write_text(json.dumps(META))
    (tmp_path / "r.json").write_text(json.dumps(REVIEW | change))
    assert told in reasons("amazon", tmp_path, "--reviews", tmp_path / "r.json", "--metadata", tmp_path / "m.json")


def test_ratings_with_a_header_and_no_row(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(META))
    (tmp_path / "r.csv").write_text("user_id,parent_asin,rating,timestamp\n")
    told = reasons("amazon", tmp_path, "--reviews", tmp_path / "r.csv", "--metadata", tmp_path / "m.json")
    assert "r.csv: expected rows below the header, found none" in told


def test_transactions_without_a_usable_event(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text(f"article_id,{FIELDS}\n0108775015,a,b,c,d,e,f\n")
    (tmp_path / "transactions_train.csv").write_text("t_dat,customer_id,article_id\n08/12/2019,a,0108775015\n")
    assert "event_with_ambiguous_time 1, the first: a 0108775015: '08/12/2019'" in reasons("hm", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("histories", "told"),
    [
        ({}, "expected reviews of users, found none"),
        ({0: []}, "expected reviews of users, found none"),
        ({0: [{"productid": 9}, {}]}, "event_without_user_or_item 2"),
        ({0: [{"productid": 0, "unixReviewTime": -5}]}, "event_time_out_of_range 1"),
    ],
)
def test_an_array_without_a_usable_event(tmp_path: Path, histories: dict[int, Any], told: str) -> None:
    array = np.empty(6, object)
    array[:] = [histories, {}, {}, parts()[3], 1, 1]
    np.save(tmp_path / "fashion.npy", array, allow_pickle=True)
    assert told in reasons("dvbpr", tmp_path, tmp_path / "fashion.npy")


def test_a_folder_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").touch()
    assert "no_picture 1, the first: notes.txt" in reasons("folder", tmp_path, tmp_path / "photos")


def test_an_event_type_may_have_capitals_and_spaces(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events.csv").write_text(
        "user,item,type,time\nann,1,Purchase,2019-10-01\nann,2, VIEW ,2019-10-02\nann,2,,2019-10-03\n"
    )
    arguments = ("--items", tmp_path / "items.csv", "--events", tmp_path / "events.csv")
    done = run("tables", *arguments, "--out", tmp_path / "out", "--min-items", 1)
    assert done.exit_code == 0

    assert pq.read_table(tmp_path / "out" / "events.parquet")["type"].to_pylist() == ["purchase", "view", "purchase"]
