"""Records of `category-trend`: what the bags of one partition add to the trend. Pure.

key     number of the partition of the bags, in decimal digits
value   MessagePack map: the labels version, the number of categories D, and D counts for each day; null for nothing

A snapshot has a row for each of the newest 56 days that have counts. What is older is one more row, under the newest of the days
that it sums up.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from streams.trend.trend import Trend

DAYS = 56  # with rows of their own: twice the longest window, so that late events see theirs
MAX_DAY = 2_932_896  # since the epoch: the last day of the year 9999
MAX_COUNT = 2**50  # 10**11 items in one category on one day; a sum over 8,000 partitions still fits 64 bits
MAX_BYTES = 896 * 1024  # of a value: it has to fit a record of 1 MiB. Enough for 1,700 categories, whatever the counts
MAX_PARTITIONS = 10_000  # of the bags, where the reader does not know how many there are

Rows = Mapping[int, NDArray[np.int64]]  # by day since the epoch, UTC: counts [D]

_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class Snapshot(Struct, frozen=True, forbid_unknown_fields=True):
    """What the bags of a partition add to the trend."""

    labels: Annotated[str, Meta(min_length=1, max_length=64)]  # the labels version of the bundle that counts by
    categories: Annotated[int, Meta(ge=1)]
    rows: Annotated[dict[Annotated[int, Meta(ge=0, le=MAX_DAY)], list[_Count]], Meta(max_length=DAYS + 1)]


class SnapshotError(Exception):
    """A record of the topic cannot be used, and why."""


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Snapshot)


def snapshot_of(labels: str, categories: int, rows: Rows) -> Snapshot:
    """The snapshot of a partition.

    Args:
        labels: the labels version.
        categories: D.
        rows: of all days. Days without counts are left out.
    """
    days = sorted(day for day, row in rows.items() if row.any())
    older, kept = days[:-DAYS], days[-DAYS:]
    table = {day: rows[day].tolist() for day in kept}
    if older:
        table[older[-1]] = np.sum([rows[day] for day in older], axis=0).tolist()
    return Snapshot(labels, categories, table)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The value of a record. Raises SnapshotError if it is too large for one."""
    value = _encode(snapshot)
    if len(value) > MAX_BYTES:
        raise SnapshotError(f"{snapshot.categories} categories make {len(value)} bytes; at most {MAX_BYTES} are sent")
    return value


def decode_snapshot(value: bytes) -> Snapshot:
    """The snapshot in a value. Raises SnapshotError."""
    if len(value) > MAX_BYTES:
        raise SnapshotError(f"its value has {len(value)} bytes; at most {MAX_BYTES} are read")
    try:
        snapshot = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"its value is no snapshot: {error}") from error
    for day, row in snapshot.rows.items():
        if len(row) != snapshot.categories:
            raise SnapshotError(f"day {day} has {len(row)} counts; expected {snapshot.categories}, one for a category")
    return snapshot


def partition_key(partition: int) -> bytes:
    """The key of a partition's snapshots."""
    return b"%d" % partition


def partition_in(key: bytes | None, partitions: int) -> int:
    """The partition that a key names. Raises SnapshotError.

    Args:
        key: of a record.
        partitions: number of partitions of the bags.
    """
    if key is not None and key.isdigit() and len(key) <= 9 and partition_key(int(key)) == key and int(key) < partitions:
        return int(key)
    raise SnapshotError(f"its key {(key or b'')[:32]!r} is none of the partitions 0 to {partitions - 1}")


def sum_of(snapshots: Mapping[int, Snapshot], *, version: int | None, labels: str, categories: int) -> Trend:
    """The trend of all partitions.

    Args:
        snapshots: the latest one of each partition. Those of other labels count nothing.
        version: the offset up to which they are the latest ones.
        labels: the labels version.
        categories: D.
    """
    rows: dict[int, NDArray[np.int64]] = {}
    for snapshot in snapshots.values():
        if snapshot.labels != labels or snapshot.categories != categories:
            continue
        for day, counts in snapshot.rows.items():
            rows[day] = rows[day] + np.array(counts, np.int64) if day in rows else np.array(counts, np.int64)
    return Trend(version if rows else None, rows, categories)
