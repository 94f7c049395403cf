"""Ids meet whatever the type of their column. Different items stay different, and an id that is not exactly known is left out."""

from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.ids import UnreadableId, id_text, same_ids
from offline_training.datasets.records import Dropped
from tests.offline_training.datasets.test_prepare import prepared, run
from tests.offline_training.datasets.zips import write_zip

FIELDS = "product_type_name,product_group_name,colour_group_name,index_name,section_name,garment_group_name"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" 123 ", "123"),
        ("0108775015", "0108775015"),
        (108775015, "108775015"),
        (1.0, "1"),
        ("1.0", "1"),
        ("-1.0", "-1"),
        (float(2**53), "9007199254740992"),
        (2**63, "9223372036854775808"),
        (Decimal("7.00"), "7"),
        (Decimal(10**30), "1" + "0" * 30),
        (b"B00005N7NQ", "B00005N7NQ"),
        (np.int64(7), "7"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("1.5", "1.5"),
        ("1.10", "1.10"),
        ("2e5", "2e5"),
        ("²", "²"),
        *((missing, "") for missing in (None, "", " ", float("nan"), "nan", "NaN", "<NA>", "None", "NULL", Decimal("NaN"))),
        ("Nan", "Nan"),
    ],
)  # fmt: skip
def test_an_id_has_one_text_whatever_its_type(value: Any, text: str) -> None:
    assert id_text(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float(2**53 + 2), "inexact_id"),
        ("1.08775E+08", "inexact_id"),
        ("1e+17", "inexact_id"),
        ("9007199254740994.0", "inexact_id"),
        (1.5, "unreadable_id"),
        (float("inf"), "unreadable_id"),
        (Decimal("0.1"), "unreadable_id"),
        (True, "unreadable_id"),
        (np.True_, "unreadable_id"),
        (["B1"], "unreadable_id"),
        (10**5000, "unreadable_id"),
        (b"Caf\xe9", "unreadable_id"),
        ("half a pair \ud83d", "unreadable_id"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_value_that_is_no_exact_id_is_refused_in_a_short_line(value: Any, reason: str) -> None:
    with pytest.raises(UnreadableId) as refused:
        id_text(value)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 160


@pytest.mark.parametrize(
    ("names", "table", "means"),
    [
        ({"7"}, {"007"}, {"7": "007"}),
        ({"007"}, {"7"}, {"007": "7"}),
        ({"007", "7"}, {"007", "7"}, {"007": "007", "7": "7"}),
        ({"0007"}, {"007", "7"}, {}),
        ({"007", "7"}, {"7"}, {"7": "7"}),
        ({"0"}, {"000"}, {"0": "000"}),
        ({"7a"}, {"07a"}, {}),
        ({"Cafe\u0301"}, {"Caf\u00e9"}, {"Cafe\u0301": "Caf\u00e9"}),
        ({"Cafe\u0301"}, {"Caf\u00e9", "Cafe\u0301"}, {"Cafe\u0301": "Cafe\u0301"}),
        ({"hat"}, {"Hat"}, {}),
    ],
)
def test_an_id_means_the_one_of_the_table_unless_several_are_alike(
    names: set[str], table: set[str], means: dict[str, str]
) -> None:
    assert same_ids(names, table) == means


COLUMNS: dict[str, pa.Array] = {
    "int64": pa.array([108775015, 108775044], pa.int64()),
    "uint32": pa.array([108775015, 108775044], pa.uint32()),
    "float64": pa.array([108775015.0, 108775044.0], pa.float64()),
    "decimal": pa.array([Decimal(108775015), Decimal(108775044)], pa.decimal128(12, 0)),
    "text without zeros": pa.array(["108775015", "108775044"]),
    "text of floats": pa.array(["108775015.0", "108775044.0"]),
    "bytes": pa.array([b"0108775015", b"0108775044"], pa.binary()),
    "dictionary of text": pa.array(["0108775015", "0108775044"]).dictionary_encode(),
    "dictionary of integers": pa.array([108775015, 108775044]).dictionary_encode(),
    "spaces": pa.array([" 0108775015", "0108775044 "]),
}


@pytest.mark.parametrize("articles", ["with zeros", "integers"])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_hm_transactions_meet_their_articles_whatever_the_type_of_the_column(
    tmp_path: Path, column: pa.Array, articles: str
) -> None:
    days = ["2018-09-20", "2018-09-21"]
    pq.write_table(pa.table({"t_dat": days, "customer_id": ["a", "b"], "article_id": column}), tmp_path / "t.parquet")
    ids = ["0108775015", "0108775044"] if articles == "with zeros" else ["108775015", "108775044"]
    lines = [f"article_id,{FIELDS}", *(f"{one},{number},b,c,d,e,f" for number, one in enumerate(ids))]
    (tmp_path / "articles.csv").write_text("\n".join(lines))
    picture = tmp_path / "images" / "010" / "0108775015.jpg"
    picture.parent.mkdir(parents=True)
    picture.touch()
    options = ("--transactions", tmp_path / "t.parquet", "--out", tmp_path / "out", "--min-items", 1, "--pictureless")
    summary, events, items = prepared("hm", tmp_path, *options)
    assert [event["item"] for event in events] == ["0108775015", "0108775044"]
    assert items["0108775015"]["image"] == str(picture)
    assert not summary.dropped


def shop(folder: Path, events: pa.Table, items: str) -> tuple[object, ...]:
    """Write two tables; the command that converts them."""
    pq.write_table(events, folder / "events.parquet")
    (folder / "items.csv").write_text(f"item,image,categories\n{items}")
    files = ("--events", folder / "events.parquet", "--items", folder / "items.csv")
    return "tables", *files, "--out", folder / "out", "--min-items", 1


def test_ids_that_pandas_made_floats_are_integers_again_and_nan_is_missing(tmp_path: Path) -> None:
    table = pa.table(
        {"user": [1.0, None, float("nan"), 2.0], "item": [7.0, 7.0, 8.0, float("nan")], "time": ["2019-10-01"] * 4}
    )
    summary, events, _ = prepared(*shop(tmp_path, table, "7,7.jpg,a\n8,8.jpg,b\n"))
    assert [(one["user"], one["item"]) for one in events] == [("1", "7")]
    assert summary.dropped["event_without_user_or_item"] == 3
    assert summary.users == 1


def test_ids_that_a_float_has_not_kept_are_left_out_with_an_example(tmp_path: Path) -> None:
    users = [float(2**60), 5.0, 6.5]
    table = pa.table({"user": users, "item": [7, 7, 7], "time": ["2019-10-01"] * 3})
    summary, events, _ = prepared(*shop(tmp_path, table, "7,7.jpg,a\n"))
    assert [one["user"] for one in events] == ["5"]
    assert summary.dropped == {"event_with_inexact_id": 1, "event_with_unreadable_id": 1}
    assert "1.152921504606847e+18 has lost digits" in summary.examples["event_with_inexact_id"]


def test_a_float_of_32_bits_loses_its_digits_earlier(tmp_path: Path) -> None:
    users = pa.array([7.0, None, 108775015.0], pa.float32())
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"user": users, "item": [7, 7, 7], "time": ["2019-10-01"] * 3}), path)
    dropped = Dropped()
    assert [event.user for event in Tables(path, path, tmp_path).interactions(dropped)] == ["7"]
    assert dropped.counts == {"event_with_inexact_id": 1, "event_without_user_or_item": 1}


def test_items_that_differ_in_their_zeros_only_are_different_if_a_table_has_both(tmp_path: Path) -> None:
    table = pa.table({"user": ["a", "b", "c"], "item": ["007", "7", "0007"], "time": ["2019-10-01"] * 3})
    summary, events, items = prepared(*shop(tmp_path, table, "007,a.jpg,spy\n7,b.jpg,number\n"))
    assert [(one["user"], one["item"]) for one in events] == [("a", "007"), ("b", "7")]
    assert {name: item["categories"] for name, item in items.items()} == {"007": ["spy"], "7": ["number"]}
    assert (summary.dropped["item_not_described"], summary.examples["item_not_described"]) == (1, "0007")


def test_pictures_meet_items_as_events_do(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "p.zip", {"0000000007.jpg": b"", "Cafe\u0301.jpg": b""})
    table = pa.table({"user": ["a", "b"], "item": ["7", "Caf\u00e9"], "time": ["2019-10-01"] * 2})
    _, _, items = prepared(*shop(tmp_path, table, "7,,a\nCaf\u00e9,,b\n"), "--pictures", archive)
    assert items["7"]["image"] == f"{archive}!/0000000007.jpg"
    assert items["Caf\u00e9"]["image"] == f"{archive}!/Cafe\u0301.jpg"


def test_a_run_whose_ids_are_all_unreadable_ends_with_the_reasons(tmp_path: Path) -> None:
    table = pa.table({"user": [True, False], "item": [7, 7], "time": ["2019-10-01"] * 2})
    done = run(*shop(tmp_path, table, "7,7.jpg,a\n"))
    assert done.exit_code == 1
    assert "no event can be read; left out: event_with_unreadable_id 2, the first: True is no id" in done.output
