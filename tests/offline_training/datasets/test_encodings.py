"""Text of any encoding is decoded, or what could not be decoded is counted with an example. Nothing is replaced silently."""

import codecs
import gzip
import json
import os
from pathlib import Path

import msgspec
import pytest

from offline_training.datasets.encodings import checked_encoding
from offline_training.datasets.formats import text_files
from offline_training.datasets.prepare import SUMMARY
from offline_training.datasets.records import DatasetError, Dropped
from tests.offline_training.datasets.test_prepare import prepared, run

ITEMS = "item,image,categories\ncafé,1.jpg,Hüte > Mützen\n2,2.jpg,Schuhe\n"
EVENTS = "user,item,time\nJosé,café,2019-10-01\nann,2,2019-10-01\n"


def tables(folder: Path, items: bytes, events: bytes) -> tuple[object, ...]:
    (folder / "items.csv").write_bytes(items)
    (folder / "events.csv").write_bytes(events)
    files = ("--items", folder / "items.csv", "--events", folder / "events.csv")
    return "tables", *files, "--out", folder / "out", "--min-items", 1


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("encoding", "mark", "options"),
    [
        ("utf-8", b"", ()),
        ("utf-8", codecs.BOM_UTF8, ()),
        ("utf-16-le", codecs.BOM_UTF16_LE, ()),
        ("utf-16-be", codecs.BOM_UTF16_BE, ()),
        ("utf-32-le", codecs.BOM_UTF32_LE, ()),
        ("utf-16-le", b"", ()),
        ("utf-16-be", b"", ()),
        ("latin-1", b"", ("--encoding", "latin-1")),
        ("cp1252", b"", ("--encoding", "windows-1252")),
        ("utf-8", codecs.BOM_UTF8, ("--encoding", "latin-1")),
    ],
)
def test_tables_of_any_encoding_are_read(
    tmp_path: Path, encoding: str, mark: bytes, options: tuple[str, ...], packed: bool
) -> None:
    data = [mark + text.encode(encoding) for text in (ITEMS, EVENTS)]
    command = tables(tmp_path, *(map(gzip.compress, data) if packed else data))
    summary, events, items = prepared(*command, *options)
    assert [(one["user"], one["item"]) for one in events] == [("José", "café"), ("ann", "2")]
    assert items["café"]["categories"] == ["Hüte", "Hüte > Mützen"]
    assert not summary.dropped


def test_what_is_not_utf_8_is_left_out_with_an_example_and_nothing_is_replaced(tmp_path: Path) -> None:
    items = "item,image,categories\n1,1.jpg,Hats > Mützen|Été\n2,2.jpg,Shoes\n3,3é.jpg,Ties\ncafé,4.jpg,Bags\n"
    events = (
        "user,item,time\nann,1,2019-10-01\nann,2,2019-10-01\nann,3,2019-10-01\nJosé,2,2019-10-01\nann,café,2019-10-01\n"
    )
    summary, kept, found = prepared(*tables(tmp_path, items.encode("latin-1"), events.encode("latin-1")))
    assert {name: item["categories"] for name, item in found.items()} == {"1": ["Hats"], "2": ["Shoes"]}
    assert len(kept) == 2
    assert summary.dropped == {
        "category_not_decoded": 2,
        "item_with_unreadable_id": 1,
        "picture_not_decoded": 1,
        "item_without_picture": 1,
        "event_with_unreadable_id": 2,
        "event_of_item_left_out": 1,
    }
    assert summary.examples["category_not_decoded"] == (
        r"1: M\xfctzen has bytes that are not UTF-8; set --encoding if the file has another encoding"
    )
    assert "\ufffd" not in (tmp_path / "out" / SUMMARY).read_text()


def test_an_undecodable_byte_in_a_field_that_is_not_read_costs_nothing(tmp_path: Path) -> None:
    reviews = {"reviewerID": "u", "asin": "B1", "overall": 5, "unixReviewTime": 1393372800, "reviewText": "café"}
    metadata = {"asin": "B1", "imUrl": "http://a/1.jpg", "categories": [["a", "b"]], "title": "café"}
    for name, one in (("r.json", reviews), ("meta.json", metadata)):
        (tmp_path / name).write_bytes(json.dumps(one, ensure_ascii=False).encode("latin-1"))
    command = ("amazon", "--reviews", tmp_path / "r.json", "--metadata", tmp_path / "meta.json")
    summary, events, _ = prepared(*command, "--out", tmp_path / "out", "--min-items", 1)
    assert len(events) == 1
    assert not summary.dropped


def test_half_a_surrogate_pair_in_json_is_left_out_and_never_a_traceback(tmp_path: Path) -> None:
    row = '{{"reviewerID": "{}", "asin": "B1", "overall": 5, "unixReviewTime": 1393372800}}\n'
    (tmp_path / "r.json").write_text(row.format("\\ud83d") + row.format("\\ud83d\\ude00"))
    (tmp_path / "meta.json").write_text(
        '{"asin": "B1", "imUrl": "http://a/1.jpg", "categories": [["a", "b", "\\udc00"]]}'
    )
    command = ("amazon", "--reviews", tmp_path / "r.json", "--metadata", tmp_path / "meta.json")
    summary, events, _ = prepared(*command, "--out", tmp_path / "out", "--min-items", 1)
    assert [one["user"] for one in events] == ["\U0001f600"]
    assert summary.dropped == {"event_with_unreadable_id": 1, "category_not_decoded": 1}


def test_a_file_whose_name_is_not_utf_8_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "hats").mkdir(parents=True)
    for name in (b"1.jpg", b"caf\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(folder / "hats") + b"/" + name)).touch()
    summary, _, items = prepared("folder", folder, "--out", tmp_path / "out")
    assert list(items) == ["hats/1.jpg"]
    assert summary.dropped == {"item_with_unreadable_id": 1}


@pytest.mark.parametrize("size", [-1, -2, -3])
def test_a_utf_16_file_that_is_cut_off_yields_the_rows_before_the_cut(tmp_path: Path, size: int) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n3,4\n".encode("utf-16")[:size])
    assert list(text_files.rows(tmp_path / "t.csv", Dropped()))[:2] == [["a", "b"], ["1", "2"]]


@pytest.mark.parametrize("name", ["latin2000", "", "rot13", "zip", "idna", "undefined", "a\0", "²", "x" * 5000])
def test_an_encoding_that_does_not_exist_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="expected an encoding such as latin-1") as refused:
        checked_encoding(name)
    assert len(str(refused.value)) < 160
    if name == "latin2000":
        done = run(*tables(tmp_path, ITEMS.encode(), EVENTS.encode()), "--encoding", name)
        assert (done.exit_code, done.output.strip().splitlines()[-1]) == (
            1, "error: --encoding 'latin2000': expected an encoding such as latin-1, cp1251 or utf-16-le"
        )  # fmt: skip


def test_counts_with_undecodable_examples_are_written_and_read(tmp_path: Path) -> None:
    dropped = Dropped()
    dropped.add("a", "caf\udce9 \ud83d")
    assert dropped.examples == {"a": r"caf\xe9 \ud83d"}
    assert msgspec.json.encode(dropped.examples)
