"""What becomes of the records of the interactions topic: no Kafka here."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import DatasetSummary, prepare
from offline_training.datasets.records import DatasetError, DatasetEvent, Dropped, Item
from offline_training.replay.source import DataSet, Selection
from offline_training.tasks.catalogue import read_catalogue
from offline_training.topic.recorded import Place, Recorded
from tests.offline_training.datasets.sources import no_step

NOW = 1_800_000_000  # seconds


@pytest.fixture
def recorded(tmp_path: Path) -> Generator[Recorded]:
    (tmp_path / "items.csv").write_text("item,image,categories\nhat,,Clothes > Hats\ntie,old.jpg,Clothes > Ties\n")
    with Recorded(tmp_path / "out" / "topic.part", tmp_path / "items.csv", now=NOW, max_future=60) as made:
        yield made


def event(user: str, item: str, time: int, **more: Any) -> bytes:
    """A purchase, unless `more` says otherwise."""
    told = {
        "user_id": user,
        "item_id": item,
        "type": "purchase",
        "timestamp": time,
        "image_url": f"http://a/{item}.jpg",
    }
    return json.dumps(told | more).encode()


def erase(user: str, time: int) -> bytes:
    return json.dumps({"user_id": user, "type": "erase", "timestamp": time}).encode()


def fill(recorded: Recorded, *values: bytes | None, partition: int = 0, first: int = 0, wanted: bool = True) -> None:
    for offset, value in enumerate(values, first):
        recorded.add(value, Place("events", partition, offset), wanted=wanted)


def left(recorded: Recorded) -> tuple[list[tuple[str, str, int]], Dropped]:
    """User, item and time of the events that are left, and what was not."""
    recorded.forget()
    dropped = Dropped()
    list(recorded.items(dropped))
    return [(one.user, one.item, one.time) for one in recorded.interactions(dropped)], dropped


def test_events_come_in_the_order_of_time_whatever_their_partition(recorded: Recorded) -> None:
    fill(recorded, event("ada", "hat", 30), event("ada", "tie", 10, type="view"), partition=1)
    fill(recorded, event("bob", "hat", 20), event("bob", "hat", 30, type="return"), partition=0)
    recorded.forget()
    dropped = Dropped()
    assert list(recorded.interactions(dropped)) == [
        DatasetEvent("ada", "tie", "view", 10),
        DatasetEvent("bob", "hat", "purchase", 20),
        DatasetEvent("bob", "hat", "return", 30),
        DatasetEvent("ada", "hat", "purchase", 30),
    ]
    list(recorded.items(dropped))
    assert dropped.notes == {"return": 1, "event_after_a_later_one": 1}
    assert dropped.examples["event_after_a_later_one"] == "events/1/1"
    assert not dropped.counts


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty_message"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (event("ada", "hat", 1).replace(b"ada", b"\\ud800"), "invalid_json"),
        (b'{"user_id": "eve", "type": "erase"}', "missing_field"),
        (event("eve", "hat", 1, type="bought"), "invalid_field"),
        (event("eve", "hat", 1, item_id=None), "missing_field"),
        (event("eve", "hat", (NOW + 61) * 1000), "timestamp_in_future"),
        (event("eve", "hat", 1, more="x" * 70_000), "message_too_large"),
    ],
)
def test_a_record_that_is_no_event_is_counted_with_its_place(
    recorded: Recorded, value: bytes | None, reason: str
) -> None:
    fill(recorded, event("ada", "hat", 1), value, event("ada", "hat", 2))
    fill(recorded, value, first=3, wanted=False)
    events, dropped = left(recorded)
    assert [time for *_, time in events] == [1, 2]
    assert dropped.counts == {reason: 1}
    assert dropped.examples[reason].startswith("events/0/1: ")


def test_an_event_that_is_sent_again_counts_once(recorded: Recorded) -> None:
    named = event("ada", "hat", 1, event_id="e1")
    fill(recorded, named, named, event("ada", "hat", 2, event_id="e1"), event("bob", "hat", 2, event_id="e1"))
    fill(recorded, event("ada", "tie", 3), event("ada", "tie", 3), partition=1)
    events, dropped = left(recorded)
    assert events == [("ada", "hat", 1), ("bob", "hat", 2), ("ada", "tie", 3)]
    assert dropped.counts == {"sent_again": 3}


def test_what_a_user_did_before_an_erasure_is_left_out_and_never_shown(recorded: Recorded) -> None:
    fill(recorded, event("ada", "hat", 10), erase("ada", 20), erase("ada", 5), event("ada", "tie", 20))
    fill(recorded, event("ada", "hat", 21), event("bob", "hat", 1), first=4)
    events, dropped = left(recorded)
    assert events == [("bob", "hat", 1), ("ada", "hat", 21)], "up to the erasure's time, as the fold has it"
    assert dropped.counts == {"event_before_erasure": 2, "erasure": 2}
    assert "ada" not in str(dropped.examples)


def test_an_erasure_outside_of_the_time_is_heeded_and_nothing_else_from_there(recorded: Recorded) -> None:
    fill(recorded, erase("ada", 20), event("bob", "erase", 15), wanted=False)
    fill(recorded, event("ada", "hat", 19), event("bob", "hat", 19), event("cleo", "hat", 19), first=2)
    fill(recorded, erase("bob", 30).replace(b"erase", b"\\u0065rase"), first=5, wanted=False)
    events, dropped = left(recorded)
    assert events == [("cleo", "hat", 19)]
    assert dropped.counts == {"event_before_erasure": 2}


def test_an_item_has_the_picture_of_its_newest_event_and_the_table_s_categories(recorded: Recorded) -> None:
    fill(
        recorded,
        event("ada", "hat", 30, image_url="http://a/new.jpg"),
        event("ada", "hat", 10, image_url="http://a/old.jpg"),
        event("bob", "hat", 40, type="return", image_url=None),
        event("bob", "scarf", 50),
        event("bob", "tie", 50, type="return", image_url=None),
        event("bob", "sock", 50, image_url="/etc/passwd"),
        event("bob", "glove", 50, image_url="a.zip!/http://a/glove.jpg"),
    )
    recorded.forget()
    dropped = Dropped()
    assert list(recorded.items(dropped)) == [
        Item("hat", "http://a/new.jpg", (("Clothes", "Hats"),)),
        Item("tie", str(recorded._path.parent.parent / "old.jpg"), (("Clothes", "Ties"),)),
        Item("glove", "", ()),
        Item("scarf", "http://a/scarf.jpg", ()),
        Item("sock", "", ()),
    ]
    assert dropped.notes["picture_changed"] == 1
    assert dropped.counts == {"picture_that_is_no_web_address": 2}, "no file of this machine is named by a stranger"


def test_no_event_is_an_error_that_says_why(recorded: Recorded) -> None:
    fill(recorded, b"{", erase("ada", 3), event("ada", "hat", 2))
    with pytest.raises(
        DatasetError, match=r"no event was sent in this time; left out:(.|\n)*invalid_json 1, the first"
    ):
        recorded.forget()


def prepared(recorded: Recorded, out: Path, min_items: int = 1) -> DatasetSummary:
    recorded.forget()
    rule = LabelRule(1, 4, min_items)
    return prepare(recorded, "events", out, rule=rule, pictures=None, step=no_step, uncategorized=True)


def test_items_without_a_category_are_kept_and_counted(recorded: Recorded, tmp_path: Path) -> None:
    fill(recorded, event("ada", "hat", 1), event("ada", "scarf", 2), event("ada", "tie", 3))
    summary = prepared(recorded, tmp_path / "out")
    assert summary.noted == {"item_without_category": 1}
    assert (summary.items, summary.events, summary.dropped) == (3, 3, {})
    assert summary.labels == {"Clothes": 2, "Clothes > Hats": 1, "Clothes > Ties": 1}
    assert DataSet(tmp_path / "out").overview(Selection()).events == 3


def test_without_a_table_all_can_be_played_and_training_says_what_is_missing(tmp_path: Path) -> None:
    with Recorded(tmp_path / "out" / "topic.part", None, now=NOW, max_future=60) as recorded:
        fill(recorded, event("ada", "hat", 1), event("ada", "scarf", 2))
        summary = prepared(recorded, tmp_path / "out")
    assert summary.noted == {"item_without_category": 2}
    assert summary.labels == {}
    assert [one.item for one in DataSet(tmp_path / "out").events(Selection())] == ["hat", "scarf"]
    assert not (tmp_path / "out" / "topic.part").exists()
    with pytest.raises(DatasetError, match="none of its 2 items has a category, so there is nothing to learn"):
        read_catalogue(tmp_path / "out", _embeddings(tmp_path, "hat", "scarf"))


def test_training_takes_the_items_that_have_a_category(recorded: Recorded, tmp_path: Path) -> None:
    fill(recorded, event("ada", "hat", 1), event("ada", "scarf", 2), event("ada", "tie", 3))
    prepared(recorded, tmp_path / "out")
    catalogue = read_catalogue(tmp_path / "out", _embeddings(tmp_path, "hat", "scarf"))
    assert (catalogue.items, catalogue.missing) == (["hat"], 1)


def test_a_file_of_an_interrupted_reading_is_replaced_and_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "topic.part").write_bytes(b"left behind")
    with Recorded(tmp_path / "topic.part", None, now=NOW, max_future=60) as recorded:
        assert list(tmp_path.iterdir()) == [], "what has to be forgotten is not left behind by a process that is killed"
        fill(recorded, event("ada", "hat", 1))
        assert left(recorded)[0] == [("ada", "hat", 1)]
    with pytest.raises(DatasetError, match=r"topic.part cannot be written: .*choose another --out"):
        Recorded(Path("/proc/none/topic.part"), None, now=NOW, max_future=60)


def test_a_full_disk_is_one_line(recorded: Recorded) -> None:
    recorded._rows.execute("PRAGMA max_page_count = 20")
    with pytest.raises(DatasetError, match=r"topic.part cannot be written: .*full: make room, or choose another --out"):
        fill(recorded, *(event("ada", f"item-{number}", number) for number in range(5000)))


def _embeddings(folder: Path, *items: str) -> Path:
    path = folder / "embeddings.npz"
    np.savez(path, ids=np.array(items), embeddings=np.zeros((len(items), 4), np.float32))
    return path
