"""The times of a table are read whatever the type of their column. A time that cannot be right is counted with an example."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.records import DatasetError, Dropped

MIDNIGHT = 1_575_763_200_000  # 2019-12-08T00:00:00Z
MOMENT = MIDNIGHT + 36_672_000  # 10:11:12
WHEN = datetime(2019, 12, 8, 10, 11, 12)  # noqa: DTZ001  (without a zone, as in many files)


def parquet(folder: Path, times: pa.Array) -> Path:
    path = folder / "events.parquet"
    pq.write_table(pa.table({"user": ["ann"] * len(times), "item": ["hat"] * len(times), "time": times}), path)
    return path


def read(path: Path) -> tuple[list[int], Dropped]:
    dropped = Dropped()
    return [event.time for event in Tables(path, path, path.parent).interactions(dropped)], dropped


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([date(2019, 12, 8)], pa.date32(), MIDNIGHT),
        ([date(2019, 12, 8)], pa.date64(), MIDNIGHT),
        ([WHEN], pa.timestamp("s"), MOMENT),
        ([WHEN], pa.timestamp("ms"), MOMENT),
        ([WHEN], pa.timestamp("us"), MOMENT),
        ([MOMENT * 1_000_000 + 999_999], pa.timestamp("ns"), MOMENT),
        ([WHEN.replace(tzinfo=UTC)], pa.timestamp("us", "Europe/Berlin"), MOMENT),
        ([WHEN.replace(tzinfo=UTC)], pa.timestamp("ms", "+05:30"), MOMENT),
        ([MOMENT * 1_000_000 + 1], pa.timestamp("ns", "America/New_York"), MOMENT),
        ([WHEN], pa.timestamp("us", "Mars/Olympus"), MOMENT),
        ([Decimal("1575799872.000")], pa.decimal128(20, 3), MOMENT),
        ([Decimal(1575799872000)], pa.decimal256(60, 0), MOMENT),
        ([1575799872], pa.int64(), MOMENT),
        ([1575799872], pa.uint32(), MOMENT),
        ([1575799872.0], pa.float64(), MOMENT),
        ([20191208], pa.int32(), MIDNIGHT),
        (["2019-12-08 10:11:12 UTC"], pa.large_string(), MOMENT),
        (["2019-12-08"], pa.dictionary(pa.int32(), pa.string()), MIDNIGHT),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_a_time_column_of_parquet_is_read_whatever_its_type(
    tmp_path: Path, values: Sequence[Any], kind: pa.DataType, expected: int
) -> None:
    times, dropped = read(parquet(tmp_path, pa.array([*values, None], kind)))
    assert times == [expected]
    assert dropped.counts == {"event_without_time": 1}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([2**31 - 1, -(2**31)], pa.date32()),
        ([2**62], pa.date64()),
        ([-(2**63) + 1, 2**63 - 1], pa.timestamp("us")),
        ([1398945600, 20191208], pa.timestamp("ms")),
        ([0], pa.timestamp("ns", "UTC")),
    ],
)
def test_a_typed_time_far_away_is_counted_and_never_taken_for_another_unit(
    tmp_path: Path, values: list[int], kind: pa.DataType
) -> None:
    stored = pa.array(values, pa.int32() if kind == pa.date32() else pa.int64())
    times, dropped = read(parquet(tmp_path, stored.view(kind)))
    assert times == []
    assert dropped.counts == {"event_time_out_of_range": len(values)}


def test_times_of_a_csv_are_read_or_counted_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    times = [
        "20191208",
        "20191208101112",
        "1575799872000000",
        "1575799872000000000",
        "2019-12-08 10:11:12 UTC",
        "1575799872.0",
    ]
    refused = ["0001-01-01", "9999-12-31", "12", "08/12/2019", "²", "--5", "9" * 5000, "inf"]
    path.write_text("user,item,time\n" + "".join(f"ann,hat,{time}\n" for time in times + refused))
    found, dropped = read(path)
    assert found == [MIDNIGHT, MOMENT, MOMENT, MOMENT, MOMENT, MOMENT]
    assert dropped.counts == {"event_time_out_of_range": 3, "event_with_ambiguous_time": 1, "event_without_time": 4}
    assert "'0001-01-01' is not between 1990-01-01 and tomorrow" in dropped.examples["event_time_out_of_range"]
    assert "day or month may come first" in dropped.examples["event_with_ambiguous_time"]


@pytest.mark.parametrize("data", [b"", b"PAR1 no table PAR1", b"user,item,time\n"])
def test_a_file_that_is_no_parquet_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "events.parquet"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"events\.parquet: cannot be read as Parquet: ") as refused:
        read(path)
    assert "\n" not in str(refused.value)
