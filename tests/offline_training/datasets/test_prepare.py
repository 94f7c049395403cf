"""`tastestream dataset` converts each format to a folder that says what it holds and what was left out."""

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from offline_training.datasets.cli import app
from offline_training.datasets.formats.tables import Tables, paths_in
from offline_training.datasets.labels import LabelRule, labels_of, vocabulary
from offline_training.datasets.prepare import EVENTS, ITEMS, SUMMARY, DatasetSummary
from offline_training.datasets.records import DatasetError, Dropped
from tests.data import DATA, needs
from tests.offline_training.datasets.test_dvbpr import npy, parts, python_2


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def prepared(*arguments: object) -> tuple[DatasetSummary, list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Run the command; the summary, the events, and the items by id."""
    out = Path(str(arguments[list(arguments).index("--out") + 1]))
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    summary = msgspec.json.decode((out / SUMMARY).read_bytes(), type=DatasetSummary)
    events, items = (pq.read_table(out / name).to_pylist() for name in (EVENTS, ITEMS))
    assert (summary.events, summary.items) == (len(events), len(items))
    return summary, events, {item["item"]: item for item in items}


REVIEWS = [
    {"reviewerID": f"U{number % 3}", "asin": f"B{number % 5}", "overall": 5, "unixReviewTime": 1_300_000_000 + number}
    for number in range(30)
]
METADATA = [
    {"asin": "B0", "imUrl": "http://a/0.jpg", "categories": [["Shop", "Women", "Tops"]]},
    {"asin": "B1", "imUrl": "http://a/1.jpg", "categories": [["Shop", "Women", "Shoes"]]},
    {"asin": "B2", "imUrl": "http://a/2.jpg", "categories": [["Shop", "Men", "Shoes"], ["Shop", "Sale"]]},
    {"asin": "B3", "categories": [["Shop", "Men"]]},
    {"asin": "B9", "imUrl": "http://a/9.jpg", "categories": [["Shop", "Men"]]},
    {"asin": "B0", "imUrl": "http://a/other.jpg", "categories": [["Shop", "Other"]]},
]


@pytest.fixture
def amazon(tmp_path: Path) -> tuple[object, ...]:
    reviews, metadata = tmp_path / "reviews.json.gz", tmp_path / "meta.json"
    reviews.write_bytes(gzip.compress("\n".join([*map(json.dumps, REVIEWS), "broken"]).encode()))
    metadata.write_text("\n".join(map(repr, METADATA)))
    out = ("--out", tmp_path / "out", "--min-items", 1)
    return "amazon", "--reviews", reviews, "--metadata", metadata, *out


def test_amazon_reviews_become_a_data_set(amazon: tuple[object, ...]) -> None:
    summary, events, items = prepared(*amazon, "--levels", "2-3")
    assert items.keys() == {"B0", "B1", "B2"}
    assert items["B0"] == {
        "item": "B0",
        "image": "http://a/0.jpg",
        "categories": ["Shop > Women", "Shop > Women > Tops"],
    }
    assert events[0] == {"user": "U0", "item": "B0", "type": "purchase", "time": 1_300_000_000_000}
    assert summary.users == 3
    assert (summary.from_time, summary.to_time) == (1_300_000_000_000, 1_300_000_027_000)
    assert summary.labels["Shop > Women"] == 2
    assert summary.dropped == {
        "event_of_item_left_out": 12,
        "item_without_picture": 1,
        "item_not_described": 1,
        "broken_line": 1,
    }
    assert summary.examples["item_not_described"] == "B4"


def test_what_was_left_out_is_shown(amazon: tuple[object, ...]) -> None:
    shown = run(*amazon).output
    assert "left out: item without picture" in shown
    assert "1, the first: B3" in shown


def test_rare_labels_and_items_without_another_label_are_left_out(amazon: tuple[object, ...]) -> None:
    summary, _, items = prepared(*amazon, "--levels", "2", "--min-items", 2)
    assert summary.labels == {"Shop > Women": 2}
    assert items.keys() == {"B0", "B1"}
    assert summary.dropped["item_without_frequent_label"] == 1


@pytest.mark.parametrize("rule", ["6=purchase", "4-5=bought", "5-4=purchase", "4-5=purchase,5=return"])
def test_a_malformed_rule_is_one_line(amazon: tuple[object, ...], rule: str) -> None:
    done = run(*amazon, "--ratings", rule)
    assert done.exit_code == 1
    [line] = filter(str.strip, done.output.splitlines())
    assert line.startswith("error: --ratings ")
    assert rule[:6] in line


def test_events_out_of_order_are_sorted_and_counted(amazon: tuple[object, ...], tmp_path: Path) -> None:
    rows = [REVIEWS[number] for number in (0, 2, 1, 5, 6, 7, 3, 10)]
    (tmp_path / "reviews.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    summary, events, _ = prepared(*amazon)
    assert [event["time"] % 1_300_000_000_000 for event in events] == [0, 1000, 2000, 5000, 6000, 7000, 10_000]
    assert summary.noted == {"event_put_in_time_order": 1}, "an event of an item that is left out does not count"
    assert summary.examples["event_put_in_time_order"] == "U1 B1"


def test_pictures_of_a_folder_replace_those_of_the_source(amazon: tuple[object, ...], tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "B"
    folder.mkdir(parents=True)
    (folder / "B3.jpg").touch()
    (folder / "B0.png").touch()
    _, _, items = prepared(*amazon, "--pictures", folder.parent)
    assert {name: item["image"] for name, item in items.items()} == {
        "B0": str(folder / "B0.png"),
        "B3": str(folder / "B3.jpg"),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--levels", "4-2"), "--levels '4-2': expected levels such as 2-4 or 3"),
        (("--levels", "x"), "--levels 'x': expected levels such as 2-4 or 3"),
        (("--ratings", "5"), "--ratings '5': expected for example 4-5=purchase"),
        (("--columns", "a,b"), "--columns 'a,b': expected item,user or user,item"),
        (("--min-items", "99"), "nothing is left: no item with a picture and a label; left out: "),
        (("--pictures", "."), "expected pictures named by item"),
    ],
)
def test_a_bad_argument_is_one_line(
    amazon: tuple[object, ...],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = run(*amazon, *arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out" / SUMMARY).exists()


@needs("amazon")
def test_real_amazon_files_become_a_data_set(tmp_path: Path) -> None:
    folder = DATA / "amazon"
    sources = ("--reviews", folder / "Magazine_Subscriptions_5.json.gz", "--metadata")
    summary, events, items = prepared(
        "amazon", *sources, folder / "meta_Magazine_Subscriptions.json.gz", "--out", tmp_path, "--levels", "2-3"
    )
    assert summary.users > 100
    assert len({event["item"] for event in events}) == len(items)
    assert all("<" not in label for label in summary.labels)


def test_a_dvbpr_array_becomes_a_data_set(tmp_path: Path) -> None:
    array = tmp_path / "fashion.npy"
    array.write_bytes(npy(python_2(parts())))
    summary, events, items = prepared("dvbpr", array, "--out", tmp_path / "out", "--min-items", 1)
    assert items.keys() == {"B1", "B2"}
    assert [event["user"] for event in events] == ["ann", "ann", "1"]
    assert summary.dropped == {"event_of_item_left_out": 1, "event_without_user_or_item": 1, "item_without_picture": 1}


@needs("hm")
def test_a_real_excerpt_of_hm_becomes_a_data_set(tmp_path: Path) -> None:
    users = ("--transactions", DATA / "hm" / "replay_users.parquet")
    summary, events, items = prepared("hm", DATA / "hm", *users, "--out", tmp_path)
    assert (summary.users, summary.items, summary.events) == (150, 3211, 3713)
    assert "colour group > Black" in summary.labels
    assert events[0]["time"] == 1537401600000
    assert Path(next(iter(items.values()))["image"]).is_file()
    assert not summary.dropped


def test_pictures_are_found_from_any_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    Path("shop/hat.jpg").touch()
    Path("events.csv").write_text("user,item,type,time\nada,hat,purchase,2020-01-01\nada,tie,view,2020-01-02\n")
    Path("items.csv").write_text("item,image,categories\nhat,shop/hat.jpg,Hats\ntie,http://shop.example/tie.jpg,Ties\n")
    tables = ("--events", "events.csv", "--items", "items.csv")
    _, _, items = prepared("tables", *tables, "--out", "set", "--min-items", 1)
    assert items["hat"]["image"] == str(tmp_path / "shop" / "hat.jpg")
    assert items["tie"]["image"] == "http://shop.example/tie.jpg"


def test_the_files_of_the_hm_competition_become_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "images" / "010").mkdir(parents=True)
    (tmp_path / "images" / "010" / "0108775015.jpg").touch()
    fields = "product_type_name,product_group_name,colour_group_name,index_name,section_name,garment_group_name"
    (tmp_path / "articles.csv").write_text(
        f"article_id,{fields}\n0108775015,Vest top,Garment Upper body,Black,Ladies,Basics,Jersey\n0108775044,a,b,c,d,e,f\n"
    )
    (tmp_path / "transactions_train.csv").write_text(
        "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,000058,0108775015,0.05,2\n2018-09-21,,0108775015,0.05,2\n"
    )
    summary, events, items = prepared("hm", tmp_path, "--out", tmp_path / "out", "--min-items", 1)
    assert events == [{"user": "000058", "item": "0108775015", "type": "purchase", "time": 1537401600000}]
    assert "colour group > Black" in items["0108775015"]["categories"]
    assert summary.dropped == {"event_without_user_or_item": 1}


def test_the_columns_that_fields_names_become_labels(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_text(
        "article_id,department_name,product_type_name,index_name\n1,Jersey,Vest top,Ladies\n2,Shirt,,A\n"
    )
    (tmp_path / "transactions_train.csv").write_text("t_dat,customer_id,article_id\n2018-09-20,58,1\n2018-09-20,58,2\n")
    options = ("--out", tmp_path / "out", "--min-items", 1, "--pictureless")
    summary, _, _ = prepared("hm", tmp_path, *options, "--fields", "product type, department_name")
    assert set(summary.labels) == {"department > Jersey", "department > Shirt", "product type > Vest top"}
    for wrong in ("department,", "index,index_name", ""):
        refused = run("hm", tmp_path, *options, "--fields", wrong)
        assert refused.exit_code == 1
        assert f"--fields {wrong!r}: expected different names, separated by commas" in refused.output.replace("\n", " ")
    absent = run("hm", tmp_path, *options, "--fields", "colour group")
    assert absent.exit_code == 1
    assert "colour_group_name" in absent.output.replace("\n", " ")


@needs("clothing")
def test_a_folder_of_categories_becomes_a_data_set(tmp_path: Path) -> None:
    summary, events, items = prepared("folder", DATA / "clothing", "--out", tmp_path)
    assert not events
    assert len(items) == 3781
    assert len(summary.labels) == 10
    assert summary.dropped == {"no_picture": 1}


EVENTS_TABLE = [
    {"user_id": "ann", "item_id": "shoe", "type": "view", "timestamp": "2014-05-01T12:00:00Z"},
    {"user_id": "ann", "item_id": "hat", "type": "purchase", "timestamp": "1398945600001"},
    {"user_id": "bob", "item_id": "hat", "type": "stare", "timestamp": "2014-05-01"},
    {"user_id": "bob", "item_id": "hat", "type": "return", "timestamp": "yesterday"},
    {"user_id": "", "item_id": "hat", "type": "return", "timestamp": "2014-05-01"},
]
ITEMS_TABLE = [
    {"item_id": "shoe", "image_url": "shoe.jpg", "categories": "Clothes > Shoes|Sale"},
    {"item_id": "hat", "image_url": "https://a.example/hat.jpg", "categories": "Clothes > Hats"},
]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_two_tables_become_a_data_set(tmp_path: Path, form: str) -> None:
    for name, rows in (("events", EVENTS_TABLE), ("items", ITEMS_TABLE)):
        path = tmp_path / f"{name}.{form}"
        if form == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    tables = ("--events", tmp_path / f"events.{form}", "--items", tmp_path / f"items.{form}")
    summary, events, items = prepared("tables", *tables, "--out", tmp_path / "out", "--min-items", 1)
    assert [(one["item"], one["type"], one["time"]) for one in events] == [
        ("shoe", "view", 1398945600000),
        ("hat", "purchase", 1398945600001),
    ]
    assert items["shoe"]["image"] == str(tmp_path / "shoe.jpg")
    assert items["shoe"]["categories"] == ["Clothes > Shoes", "Sale"]  # every item has Clothes, so it is no label
    assert summary.dropped == {
        "event_of_unknown_type": 1,
        "event_without_time": 1,
        "event_without_user_or_item": 1,
    }


def test_a_missing_column_is_named_with_the_columns_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,image\n1,a.jpg\n")
    with pytest.raises(DatasetError, match=r"expected a column item \(item, item_id, .*\), found sku, image"):
        list(Tables(None, tmp_path / "items.csv", tmp_path).items(Dropped()))


def test_a_prepared_data_set_can_be_prepared_again(amazon: tuple[object, ...], tmp_path: Path) -> None:
    _, events, items = prepared(*amazon, "--levels", "2-3")
    out = tmp_path / "out"
    again = ("tables", "--events", out / EVENTS, "--items", out / ITEMS, "--out", tmp_path / "again", "--min-items", 1)
    summary, events_again, items_again = prepared(*again, "--levels", "2-3")
    assert events_again == events
    assert {name: set(item["categories"]) for name, item in items_again.items()} == {
        name: set(item["categories"]) for name, item in items.items()
    }
    assert not summary.dropped


def test_category_paths_are_read_from_lists_and_from_text() -> None:
    assert paths_in("a > b|c") == (("a", "b"), ("c",))
    assert paths_in(["a > b", "c"]) == (("a", "b"), ("c",))
    assert paths_in([["a", "b"], ["c"]]) == (("a", "b"), ("c",))
    assert paths_in("") == paths_in(None) == paths_in(7) == ()


def test_the_levels_and_the_counts_decide_which_labels_there_are() -> None:
    rule = LabelRule(first=2, last=3, min_items=2, max_labels=2)
    assert labels_of([("a", "b", "c", "d"), ("a", "b"), ("x",)], rule) == ("a > b", "a > b > c")
    assert vocabulary(Counter({"all": 9, "x": 5, "y": 4, "z": 4, "rare": 1}), 9, rule) == ["x", "y"]


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), {"1"}),
        (("--pictureless",), {"1", "2"}),
        (("--untouched",), {"1", "3"}),
        (("--pictureless", "--untouched"), {"1", "2", "3", "4"}),
    ],
)
def test_items_without_picture_or_event_are_kept_on_request(
    tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    items, events = tmp_path / "items.csv", tmp_path / "events.csv"
    items.write_text("item,image,categories\n1,1.jpg,hats\n2,,shoes\n3,3.jpg,ties\n4,,hats\n")
    events.write_text("user,item,time\nada,1,2026-01-01\nada,2,2026-01-02\n")
    options = ("--min-items", 1, "--out", tmp_path / "set", *flags)
    _, _, found = prepared("tables", "--items", items, "--events", events, *options)
    assert set(found) == kept


def test_the_labels_of_a_bundle_are_kept_however_few_items_have_them() -> None:
    rule = LabelRule(1, 1, 5, 2, only=frozenset({"all", "rare", "gone"}))
    assert vocabulary(Counter({"all": 9, "x": 5, "y": 4, "rare": 1}), 9, rule) == ["all", "rare"]


def shop(folder: Path, categories: list[str], users: int = 3) -> tuple[object, ...]:
    """Two tables: an item for each entry of `categories`, and users who take the first items."""
    items = [[f"i{number}", f"http://a/{number}.jpg", text] for number, text in enumerate(categories)]
    events = [[f"u{user}", f"i{item}", 1_600_000_000 + item] for user in range(users) for item in range(len(items) - 1)]
    for name, header, rows in (("items", "item,image,categories", items), ("events", "user,item,time", events)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            file.write(header + "\n")
            csv.writer(file).writerows(rows)
    tables = ("--events", folder / "events.csv", "--items", folder / "items.csv")
    return "tables", *tables, "--out", folder / "set", "--min-items", 1


def test_a_label_that_every_item_has_is_named_as_such(tmp_path: Path) -> None:
    arguments = shop(tmp_path, ["Shop > hat", "Shop > tie", "Shop", "Shop > tie"])
    summary, _, items = prepared(*arguments, "--untouched")
    assert summary.labels.keys() == {"Shop > hat", "Shop > tie"}
    assert summary.of_every_item == ["Shop"]
    assert summary.dropped["item_with_labels_of_every_item_only"] == 1
    assert summary.examples["item_with_labels_of_every_item_only"] == "i2: Shop"
    assert len(items) == 3
    assert "left out: label of every item" in run(*arguments).output


@pytest.mark.parametrize("categories", [["hat"] * 4, ["colour > red"] * 4, ["sale|new"] * 4])
def test_a_shop_whose_items_all_have_the_same_labels_is_refused_with_that_reason(
    tmp_path: Path, categories: list[str]
) -> None:
    done = run(*shop(tmp_path, categories))
    assert done.exit_code == 1
    assert "nothing is left: no item with a picture and a label" in done.output
    assert "item_with_labels_of_every_item_only 3, the first: i0: " in done.output


def test_a_field_with_one_value_that_some_items_have_stays(tmp_path: Path) -> None:
    summary, _, _ = prepared(*shop(tmp_path, ["sale > yes|hat", "hat", "tie", "tie"]))
    assert "sale" in {label.partition(" > ")[0] for label in summary.labels}
    assert not summary.dropped


@pytest.mark.parametrize(
    "categories", [["", "hat", "tie", "hat"], ["|", "hat", "tie", "hat"], [" > ", "hat", "tie", "hat"]]
)
def test_items_without_labels_are_counted_with_their_reason(tmp_path: Path, categories: list[str]) -> None:
    summary, _, _ = prepared(*shop(tmp_path, categories))
    assert summary.dropped["item_without_category"] == 1


@pytest.mark.parametrize("text", ["hat, cap", "hat; cap", "Clothes > hat,cap"])
def test_a_comma_separates_nothing_and_the_command_says_what_does(tmp_path: Path, text: str) -> None:
    summary, _, items = prepared(*shop(tmp_path, [text, "tie", "tie", "tie"]))
    assert items["i0"]["categories"][-1] == text
    assert summary.noted["one_label_with_a_comma"] == 1
    last = text.rpartition(" > ")[2]
    assert summary.examples["one_label_with_a_comma"] == (
        f"i0: {last!r} is one label; | separates labels, and ` > ` the levels of a label"
    )


@pytest.mark.parametrize("text", ["hat|cap", "['hat, with a brim']", "Tops, plain|cap"])
def test_what_is_separated_or_a_list_is_taken_as_it_is(tmp_path: Path, text: str) -> None:
    summary, _, _ = prepared(*shop(tmp_path, [text, "tie", "tie", "tie"]))
    assert "one_label_with_a_comma" not in summary.noted


def test_items_without_an_event_are_counted_with_the_option_that_keeps_them(tmp_path: Path) -> None:
    arguments = shop(tmp_path, ["hat", "tie", "cap", "hat"])
    summary, _, items = prepared(*arguments)
    assert (len(items), summary.untouched) == (3, 1)
    assert re.search("left out: item without event +. 1; --untouched keeps them", run(*arguments).output)
    summary, _, items = prepared(*arguments, "--untouched")
    assert (len(items), summary.untouched) == (4, 0)
