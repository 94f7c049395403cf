"""The events of a prepared data set are read in order: all of them, or a selection."""

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import SUMMARY, DatasetSummary
from offline_training.datasets.records import DatasetError
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.events import EventSelection, PlayedEvent, PreparedDataset
from tests.offline_training.replay.made import Row, write

ITEMS = {
    "hat": ("hat.jpg", ["hats"]),
    "tie": ("https://shop.example/tie.jpg", ["ties", "silk"]),
    "box": ("", ["boxes"]),
}
ROWS: list[Row] = [(f"user-{n % 100}", ("hat", "tie")[n % 2], "purchase", n // 10) for n in range(1000)]


@pytest.fixture
def data(tmp_path: Path) -> PreparedDataset:
    return PreparedDataset(write(tmp_path, ROWS, ITEMS))


def test_all_events_are_read_in_the_order_of_the_file(data: PreparedDataset) -> None:
    assert list(data.events(EventSelection())) == [PlayedEvent(n, n, *row) for n, row in enumerate(ROWS)]
    seen = data.overview(EventSelection())
    assert (seen.events, seen.first, seen.last, len(seen.of_user)) == (1000, 0, 99, 100)
    assert set(seen.of_user.values()) == {10}


def test_an_item_knows_its_local_picture(data: PreparedDataset) -> None:
    assert {name: item.local_picture for name, item in data.items.items()} == {
        "hat": PictureRef("hat.jpg"),
        "tie": None,
        "box": None,
    }
    assert data.items["tie"].categories == ("ties", "silk")


def test_users_are_sampled_with_all_their_events_and_a_larger_share_contains_a_smaller(data: PreparedDataset) -> None:
    tenth, half = (list(data.events(EventSelection(users=share))) for share in (0.1, 0.5))
    users = {event.user for event in half}
    assert 30 < len(users) < 70
    assert [event.number for event in half] == [n for n, row in enumerate(ROWS) if row[0] in users]
    assert [event.place for event in half] == list(range(len(half)))
    assert {event.user for event in tenth} < users


def test_a_limit_and_times_select_events(data: PreparedDataset) -> None:
    assert [event.number for event in data.events(EventSelection(limit=3))] == [0, 1, 2]
    between = [(event.place, event.number) for event in data.events(EventSelection(since=5, until=7, limit=15))]
    assert between == [(place, 50 + place) for place in range(15)]
    assert data.overview(EventSelection(since=5, until=7)).events == 20


def test_events_that_cannot_be_played_are_counted(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("ada", "hat", "view", 1),
        ("ada", "box", "view", 2),
        ("ada", "gone", "view", 3),
        ("ada", "tie", "view", 4),
    ]
    data = PreparedDataset(write(tmp_path, rows, ITEMS))
    assert [(event.place, event.number) for event in data.events(EventSelection())] == [(0, 0), (1, 3)]
    assert data.overview(EventSelection()).left_out == {"item without picture": 1, "unknown item": 1}


@pytest.mark.parametrize("row", [30, 50])
def test_events_out_of_time_order_are_refused(tmp_path: Path, row: int) -> None:
    rows: list[Row] = [("ada", "hat", "view", n if n != row else row - 2) for n in range(100)]
    data = PreparedDataset(write(tmp_path, rows, ITEMS))
    with pytest.raises(ReplayError, match="not in time order: prepare the data set"):
        data.overview(EventSelection())


def test_an_empty_selection_is_an_error_that_says_why(data: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="no event to play: select more users or other times"):
        data.overview(EventSelection(since=1000))
    with pytest.raises(ReplayError, match="no event to play: left out: item without picture 1"):
        PreparedDataset(write(tmp_path, [("ada", "box", "view", 1)], ITEMS)).overview(EventSelection())


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"events.parquet: there is no such file: prepare"):
        PreparedDataset(tmp_path)


def test_different_events_have_different_fingerprints(data: PreparedDataset, tmp_path: Path) -> None:
    other = PreparedDataset(write(tmp_path / "other", [*ROWS[:-1], ("user-99", "hat", "purchase", 99)], ITEMS))
    again = PreparedDataset(write(tmp_path / "again", ROWS, ITEMS))
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_the_summary_says_what_was_left_out(tmp_path: Path) -> None:
    write(tmp_path, ROWS, ITEMS)
    assert PreparedDataset(tmp_path).left_out == {}
    summary = DatasetSummary("x", 1, 1, 1, 0, 0, labels={}, dropped={"broken_line": 2}, examples={})
    (tmp_path / SUMMARY).write_bytes(msgspec.json.encode(summary))
    assert PreparedDataset(tmp_path).left_out == {"broken_line": 2}
    (tmp_path / SUMMARY).write_text("{")
    with pytest.raises(DatasetError, match=r"dataset.json: .*prepare the data set"):
        PreparedDataset(tmp_path)
