"""The topic `category-trend` as it was read: the latest snapshot of each partition, now and as of any offset. Pure.

The version of a trend is the offset of a record: the trend is the sum over the latest record of each key up to that offset. So
an answer that names its version can be computed again for as long as the topic keeps the records.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from streams.kafka.records import Record, UnreadableRecord
from streams.trend.snapshots import MAX_PARTITIONS, Snapshot, SnapshotError, decode_snapshot, partition_in, sum_of
from streams.trend.trend import Trend, no_trend


class Latest:
    """The latest snapshot of each partition, as a reader of the topic keeps them.

    Attributes:
        snapshots: by partition.
        offsets: of the latest record of each partition, also of one that cannot be used.
        version: the offset of the last record; None before the first.
    """

    def __init__(self, partitions: int) -> None:
        """Start without any. `partitions`: number of partitions of the bags."""
        self.snapshots: dict[int, Snapshot] = {}
        self.offsets: dict[int, int] = {}
        self.version: int | None = None
        self._partitions = partitions

    def apply(self, records: Sequence[Record]) -> list[str]:
        """Take the next records, in order. A record that cannot be used leaves the snapshot of its partition as it is.

        Returns:
            Why records cannot be used, of those that are not replaced by later ones.
        """
        problems: list[str] = []
        taken: set[int] = set()
        self.version = records[-1].offset if records else self.version
        for record in reversed(records):  # most are replaced by later ones, and need not be decoded
            try:
                partition = _partition_of(record, self._partitions)
                if partition in taken:
                    continue
                self.offsets[partition] = max(record.offset, self.offsets.get(partition, -1))
                if record.value is None:
                    self.snapshots.pop(partition, None)
                else:
                    self.snapshots[partition] = decode_snapshot(record.value)
                taken.add(partition)
            except SnapshotError as error:
                problems.append(f"offset {record.offset}: {error}")
        return problems[::-1]

    def trend(self, labels: str, categories: int) -> Trend:
        """The sum over the partitions, by the labels of a bundle."""
        return sum_of(self.snapshots, version=self.version, labels=labels, categories=categories)


class History:
    """All versions of the trend that the topic still has."""

    def __init__(self, labels: str, categories: int, partitions: int = MAX_PARTITIONS) -> None:
        """Start without any.

        Args:
            labels: the labels version of the bundle whose trend it is.
            categories: D.
            partitions: number of partitions of the bags, or more.
        """
        self.problems: list[str] = []  # records that cannot be used
        self._labels, self._categories, self._partitions = labels, categories, partitions
        self._offsets: dict[int, list[int]] = {}  # by partition, of the records that can be used, ascending
        self._values: dict[int, list[bytes | None]] = {}
        self._decoded = lru_cache(maxsize=4096)(decode_snapshot)
        self.at = lru_cache(maxsize=64)(self._at)

    def add(self, record: Record) -> None:
        """Take the next record of the topic."""
        try:
            partition = _partition_of(record, self._partitions)
            if record.value is not None:
                decode_snapshot(record.value)
        except SnapshotError as error:
            self.problems.append(f"offset {record.offset}: {error}")
            return
        self._offsets.setdefault(partition, []).append(record.offset)
        self._values.setdefault(partition, []).append(record.value)

    def _at(self, version: int | None) -> Trend:
        """The trend of a version that an answer names; that of nothing for None."""
        if version is None:
            return no_trend(self._categories)
        snapshots: dict[int, Snapshot] = {}
        for partition, offsets in self._offsets.items():
            place = bisect_right(offsets, version)
            value = self._values[partition][place - 1] if place else None
            if value is not None:
                snapshots[partition] = self._decoded(value)
        return sum_of(snapshots, version=version, labels=self._labels, categories=self._categories)


def _partition_of(record: Record, partitions: int) -> int:
    """The partition that a record is about. Raises SnapshotError."""
    if isinstance(record, UnreadableRecord):
        raise SnapshotError(record.problem)
    return partition_in(record.key, partitions)
