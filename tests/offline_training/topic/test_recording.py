"""Records of the interactions topic become the rows of a data set. Needs no Kafka."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.labels import LabelRule
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import DatasetSummary, prepare
from offline_training.datasets.records import DatasetError, DatasetEvent, DatasetItem, Dropped
from offline_training.replay.play.events import EventSelection, PreparedDataset
from offline_training.tasks.catalogue import read_catalogue
from offline_training.topic.recording import RecordPosition, TopicRecording
from tests.offline_training.datasets.sources import no_step

NOW = 1_800_000_000  # seconds


@pytest.fixture
def recording(tmp_path: Path) -> Generator[TopicRecording]:
    (tmp_path / "items.csv").write_text("item,image,categories\nhat,,Clothes > Hats\ntie,old.jpg,Clothes > Ties\n")
    with TopicRecording(
        tmp_path / "out" / "topic.part", tmp_path / "items.csv", now=NOW, max_future=60, earliest=0
    ) as made:
        yield made


def event(user: str, item: str, time: int, **more: Any) -> bytes:
    """Make an event; a purchase, unless `more` says otherwise."""
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


def fill(
    recording: TopicRecording, *values: bytes | None, partition: int = 0, first: int = 0, wanted: bool = True
) -> None:
    for offset, value in enumerate(values, first):
        recording.add(value, RecordPosition("events", partition, offset), wanted=wanted)


def left(recording: TopicRecording) -> tuple[list[tuple[str, str, int]], Dropped]:
    """The events that are left, as user, item and time; and what was left out."""
    recording.forget()
    dropped = Dropped()
    list(recording.items(dropped))
    return [(one.user, one.item, one.time) for one in recording.interactions(dropped)], dropped


def test_events_are_sorted_by_time_across_partitions(recording: TopicRecording) -> None:
    fill(recording, event("ada", "hat", 30), event("ada", "tie", 10, type="view"), partition=1)
    fill(recording, event("bob", "hat", 20), event("bob", "hat", 30, type="return"), partition=0)
    recording.forget()
    dropped = Dropped()
    assert list(recording.interactions(dropped)) == [
        DatasetEvent("ada", "tie", "view", 10),
        DatasetEvent("bob", "hat", "purchase", 20),
        DatasetEvent("bob", "hat", "return", 30),
        DatasetEvent("ada", "hat", "purchase", 30),
    ]
    list(recording.items(dropped))
    assert dropped.notes == {"return": 1, "event_put_in_time_order": 1}
    assert dropped.examples["event_put_in_time_order"] == "events/1/1"
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
def test_an_invalid_record_is_counted_with_its_position(
    recording: TopicRecording, value: bytes | None, reason: str
) -> None:
    fill(recording, event("ada", "hat", 1), value, event("ada", "hat", 2))
    fill(recording, value, first=3, wanted=False)
    events, dropped = left(recording)
    assert [time for *_, time in events] == [1, 2]
    assert dropped.counts == {reason: 1}
    assert dropped.examples[reason].startswith("events/0/1: ")


def test_records_that_cannot_be_read_are_counted_by_their_offsets(recording: TopicRecording) -> None:
    fill(recording, event("ada", "hat", 1))
    recording.leave_out("unreadable_batch", "damaged", RecordPosition("events", 0, 4), 4)
    _, dropped = left(recording)
    assert dropped.counts == {"unreadable_batch": 4}
    assert dropped.examples == {"unreadable_batch": "events/0/4: damaged"}


def test_a_duplicate_event_counts_once(recording: TopicRecording) -> None:
    named = event("ada", "hat", 1, event_id="e1")
    fill(recording, named, named, event("ada", "hat", 2, event_id="e1"), event("bob", "hat", 2, event_id="e1"))
    fill(recording, event("ada", "tie", 3), event("ada", "tie", 3), partition=1)
    events, dropped = left(recording)
    assert events == [("ada", "hat", 1), ("bob", "hat", 2), ("ada", "tie", 3)]
    assert dropped.counts == {"sent_again": 3}


def test_events_before_an_erasure_are_left_out_and_never_shown(recording: TopicRecording) -> None:
    fill(recording, event("ada", "hat", 10), erase("ada", 20), erase("ada", 5), event("ada", "tie", 20))
    fill(recording, event("ada", "hat", 21), event("bob", "hat", 1), first=4)
    events, dropped = left(recording)
    assert events == [("bob", "hat", 1), ("ada", "hat", 21)], "up to the time of the erasure, like the fold"
    assert dropped.counts == {"event_before_erasure": 2, "erasure": 2}
    assert "ada" not in str(dropped.examples)


def test_an_erasure_outside_the_range_counts_and_nothing_else_from_there_does(recording: TopicRecording) -> None:
    fill(recording, erase("ada", 20), event("bob", "erase", 15), wanted=False)
    fill(recording, event("ada", "hat", 19), event("bob", "hat", 19), event("cleo", "hat", 19), first=2)
    fill(recording, erase("bob", 30).replace(b"erase", b"\\u0065rase"), first=5, wanted=False)
    events, dropped = left(recording)
    assert events == [("cleo", "hat", 19)]
    assert dropped.counts == {"event_before_erasure": 2}


def test_an_item_has_the_picture_of_its_newest_event_and_the_categories_of_the_table(recording: TopicRecording) -> None:
    fill(
        recording,
        event("ada", "hat", 30, image_url="http://a/new.jpg"),
        event("ada", "hat", 10, image_url="http://a/old.jpg"),
        event("bob", "hat", 40, type="return", image_url=None),
        event("bob", "scarf", 50, image_url="//a/scarf.jpg"),
        event("bob", "tie", 50, type="return", image_url=None),
        event("bob", "sock", 50, image_url="/etc/passwd"),
        event("bob", "glove", 50, image_url="a.zip!/http://a/glove.jpg"),
    )
    recording.forget()
    dropped = Dropped()
    assert list(recording.items(dropped)) == [
        DatasetItem("hat", PictureRef("http://a/new.jpg"), (("Clothes", "Hats"),)),
        DatasetItem("tie", PictureRef(str(recording._path.parent.parent / "old.jpg")), (("Clothes", "Ties"),)),
        DatasetItem("glove", None, ()),
        DatasetItem("scarf", PictureRef("https://a/scarf.jpg"), ()),
        DatasetItem("sock", None, ()),
    ]
    assert dropped.notes["picture_changed"] == 1
    assert dropped.counts == {"picture_that_is_no_web_address": 2}, "an event cannot name a file of this machine"


def test_a_topic_without_events_is_an_error_that_says_why(recording: TopicRecording) -> None:
    fill(recording, b"{", erase("ada", 3), event("ada", "hat", 2))
    with pytest.raises(
        DatasetError, match=r"no event was sent between --from and --until; left out:(.|\n)*invalid_json 1, the first"
    ):
        recording.forget()


def prepared(recording: TopicRecording, out: Path, min_items: int = 1) -> DatasetSummary:
    recording.forget()
    rule = LabelRule(1, 4, min_items)
    return prepare(recording, "events", out, rule=rule, pictures=None, step=no_step, uncategorized=True)


def test_items_without_a_category_are_kept_and_counted(recording: TopicRecording, tmp_path: Path) -> None:
    fill(recording, event("ada", "hat", 1), event("ada", "scarf", 2), event("ada", "tie", 3))
    summary = prepared(recording, tmp_path / "out")
    assert summary.noted == {"item_without_category": 1}
    assert (summary.items, summary.events, summary.dropped) == (3, 3, {})
    assert summary.labels == {"Clothes": 2, "Clothes > Hats": 1, "Clothes > Ties": 1}
    assert PreparedDataset(tmp_path / "out").overview(EventSelection()).events == 3


def test_without_a_table_events_can_be_replayed_and_training_says_what_is_missing(tmp_path: Path) -> None:
    with TopicRecording(tmp_path / "out" / "topic.part", None, now=NOW, max_future=60, earliest=0) as recording:
        fill(recording, event("ada", "hat", 1), event("ada", "scarf", 2))
        summary = prepared(recording, tmp_path / "out")
    assert summary.noted == {"item_without_category": 2}
    assert summary.labels == {}
    assert [one.item for one in PreparedDataset(tmp_path / "out").events(EventSelection())] == ["hat", "scarf"]
    assert not (tmp_path / "out" / "topic.part").exists()
    with pytest.raises(DatasetError, match="none of its 2 items has a category, which training and evaluation need"):
        read_catalogue(tmp_path / "out", _embeddings(tmp_path, "hat", "scarf"))


def test_training_uses_the_items_that_have_a_category(recording: TopicRecording, tmp_path: Path) -> None:
    fill(recording, event("ada", "hat", 1), event("ada", "scarf", 2), event("ada", "tie", 3))
    prepared(recording, tmp_path / "out")
    catalogue = read_catalogue(tmp_path / "out", _embeddings(tmp_path, "hat", "scarf"))
    assert (catalogue.items, catalogue.missing) == (["hat"], 1)


def test_a_leftover_file_is_replaced_and_an_unusable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "topic.part").write_bytes(b"left behind")
    with TopicRecording(tmp_path / "topic.part", None, now=NOW, max_future=60, earliest=0) as recording:
        assert list(tmp_path.iterdir()) == [], "a killed process leaves no events behind"
        fill(recording, event("ada", "hat", 1))
        assert left(recording)[0] == [("ada", "hat", 1)]
    with pytest.raises(DatasetError, match=r"topic.part cannot be written: .*choose another --out"):
        TopicRecording(Path("/proc/none/topic.part"), None, now=NOW, max_future=60, earliest=0)


def test_a_full_disk_is_one_clear_error(recording: TopicRecording) -> None:
    recording._rows.execute("PRAGMA max_page_count = 20")
    with pytest.raises(DatasetError, match=r"topic.part cannot be written: .*full: make room, or choose another --out"):
        fill(recording, *(event("ada", f"item-{number}", number) for number in range(5000)))


def _embeddings(folder: Path, *items: str) -> Path:
    path = folder / "embeddings.npz"
    np.savez(path, ids=np.array(items), embeddings=np.zeros((len(items), 4), np.float32))
    return path
