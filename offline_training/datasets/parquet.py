"""Access to pyarrow, which the extra `parquet` installs, and the values of a column of any type."""

from importlib import import_module
from typing import Any

from offline_training.datasets.encodings import KEEP_APART
from offline_training.datasets.ids import Single
from offline_training.datasets.records import DatasetError
from streams.times import Milliseconds

PER_MILLISECOND = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
"""Factor and divisor to milliseconds, by the unit of a timestamp."""
DAY = 86_400_000  # milliseconds


def parquet_module() -> Any:
    """Import `pyarrow.parquet`.

    Raises:
        DatasetError: pyarrow is not installed.
    """
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise DatasetError("Parquet needs pyarrow: pip install 'tastestream[parquet]'") from None


def values_of(column: Any) -> list[Any]:
    """The values of a column as Python objects; dates and timestamps as `Milliseconds`, floats of 32 bits as `Single`, bytes as text.

    The unit of a timestamp and the zone of its column are pyarrow's: a timestamp with a zone counts from the epoch in UTC, and one
    without is UTC here. Python's own `datetime` has neither nanoseconds nor years after 9999.
    """
    import pyarrow as pa  # noqa: PLC0415  (an extra)

    kind = column.type
    if pa.types.is_dictionary(kind):
        return values_of(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return _milliseconds(column.cast(pa.int64()), *PER_MILLISECOND[kind.unit])
    if pa.types.is_date32(kind):
        return _milliseconds(column.cast(pa.int32()), DAY, 1)
    if pa.types.is_date64(kind):
        return _milliseconds(column.cast(pa.int64()), 1, 1)
    values = column.to_pylist()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        values = [None if text is None else text.decode(errors=KEEP_APART) for text in values]
    elif pa.types.is_float32(kind):
        values = [None if number is None else Single(number) for number in values]
    return values


def _milliseconds(numbers: Any, factor: int, divisor: int) -> list[Milliseconds | None]:
    return [None if number is None else Milliseconds(number * factor // divisor) for number in numbers.to_pylist()]
