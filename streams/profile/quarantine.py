"""Rows of the changelog and the disk that cannot be used: they are counted, logged and passed over."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from streams import metrics
from streams.kafka.records import UnreadableRecord
from streams.logs.place import shown_user
from streams.logs.repeats import summed
from streams.profile.bag import Bag
from streams.profile.databases import BagDatabases
from streams.profile.rows import decode_bag, fault, slot_key, user_prefix

logger = logging.getLogger(__name__)


def usable_rows(partition: int, records: Iterable[Any]) -> list[tuple[bytes, bytes | None]]:
    """The rows in changelog records, without those that cannot be used. Raises UnknownRowFormat."""
    return [
        (record.key, record.value)
        for record in records
        if _readable(record) and _usable(partition, record.key, record.value)
    ]


class UsableRows:
    """The rows of a partition on disk, without those that cannot be used: what a `Merge` reads."""

    def __init__(self, databases: BagDatabases, partition: int) -> None:
        self._databases = databases
        self._partition = partition

    def row(self, key: bytes) -> bytes | None:
        """The row under a key."""
        found = self._databases.row(self._partition, key)
        return found if found is None or _usable(self._partition, key, found) else None

    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The rows of a user."""
        return [row for row in self._databases.scan(self._partition, prefix) if _usable(self._partition, *row)]


def stored_bag(
    databases: BagDatabases, partition: int, user_id: str, kept: Mapping[str, int]
) -> tuple[list[bytes], Bag]:
    """Read a user's bag from disk.

    Args:
        databases: the rows.
        partition: of the user.
        user_id: whose bag.
        kept: length of the embeddings of each embedder in use, by its version.

    Returns:
        The keys of the rows on disk that can be used, including those that the floor hides, and the bag.

    Raises:
        KeyError: the partition is not open.
        StateError: RocksDB reports a failure.
        UnknownRowFormat: another version of tastestream wrote a row.
    """
    unusable: set[bytes] = set()

    def pass_over(key: bytes, what: str) -> None:
        unusable.add(key)
        _quarantine(partition, key, what)

    rows = databases.scan(partition, user_prefix(user_id))
    bag = decode_bag(rows, pass_over)
    for slot in bag.slots.values():
        for picture in slot.pictures:
            found = len(picture.embedding)
            expected = kept.get(picture.embedder_version, found)
            if found != expected:
                what = f"its embedding has {found} bytes; its embedder makes {expected}"
                _quarantine(partition, slot_key(user_id, slot.item_id), what)
    return [key for key, _ in rows if key not in unusable], bag


def _readable(record: Any) -> bool:
    """Whether a changelog record could be read; otherwise it is counted and logged."""
    if not isinstance(record, UnreadableRecord):
        return True
    metrics.quarantined_rows.inc(record.offset - record.first_offset + 1)
    logger.warning(
        "partition %d: passed over the rows of the bags at the offsets %d to %d of the changelog: %s",
        record.partition, record.first_offset, record.offset, record.problem,
        extra=summed("batches passed over", f"partition {record.partition}"),
    )  # fmt: skip
    return False


def _usable(partition: int, key: bytes | None, value: bytes | None) -> bool:
    """Whether a row can be used; otherwise it is counted and logged. Raises UnknownRowFormat."""
    what = fault(key, value)
    if what:
        _quarantine(partition, key, what)
    return not what


def _quarantine(partition: int, key: bytes | None, what: str) -> None:
    metrics.quarantined_rows.inc()
    logger.warning(
        "partition %d: passed over a row of the bags, key %s: %s", partition, shown_user((key or b"")[:64]), what,
        extra=summed("rows passed over", f"partition {partition}"),
    )  # fmt: skip
