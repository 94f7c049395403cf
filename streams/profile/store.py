"""The bags on disk as a Faust store: the databases of the assigned partitions, and Faust's interface to them.

Rows are written only after the broker has acknowledged them, so a worker that dies is never ahead of what another worker can
recover.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from faust.stores.base import SerializedStore
from faust.types import TP, EventT
from mode.utils.logging import get_logger
from typing_extensions import override

from streams.profile.databases import BagDatabases, RocksDBMemory, is_own, items_in


class BagStore(BagDatabases, SerializedStore[bytes, bytes]):
    """The databases of the assigned partitions. A partition that is not open is not assigned to this worker."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    def __init__(
        self, *args: Any, folder: Path, memory: RocksDBMemory, closed: Callable[[int], None], **kwargs: Any
    ) -> None:
        """Make a store, as Faust does; the other arguments are those of `BagDatabases`."""
        SerializedStore.__init__(self, *args, **kwargs)
        BagDatabases.__init__(self, folder, memory, closed)

    @override
    def persisted_offset(self, tp: TP) -> int | None:
        """Return None: the table recovers by itself, and Faust has nothing to read."""
        return None

    @override
    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        raise NotImplementedError("an offset is written together with its rows")

    @override
    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Do nothing: the table recovers by itself, and Faust has read nothing."""

    @override
    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        changelog = self.table.changelog_topic.topics
        for tp in revoked:
            if tp.topic in changelog:
                self.close(tp.partition)

    @override
    async def backup_partition(self, tp: TP | int, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    @override
    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        raise NotImplementedError("the changelog topic is the backup")

    @override
    def reset_state(self) -> None:
        raise NotImplementedError("delete the partition's folder while the worker is down")

    @override
    async def on_stop(self) -> None:
        for partition in list(self._databases):
            self.close(partition)

    # -- the mapping that Faust's table interface requires: reads from all open partitions, no writes

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        for database in self._databases.values():
            yield from ((key, value) for key, value in items_in(database) if not is_own(key))

    @override
    def _get(self, key: bytes) -> bytes | None:
        return next((value for database in self._databases.values() if (value := database.get(key)) is not None), None)

    @override
    def _iterkeys(self) -> Iterator[bytes]:
        return (key for key, _ in self._rows())

    @override
    def _itervalues(self) -> Iterator[bytes]:
        return (value for _, value in self._rows())

    @override
    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return self._rows()

    @override
    def _size(self) -> int:
        return sum(1 for _ in self._rows())

    @override
    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    @override
    def _set(self, key: bytes, value: bytes | None) -> None:
        raise TypeError("write rows with BagTable.write, which knows their partition and waits for their changelog")

    @override
    def _del(self, key: bytes) -> None:
        self._set(key, None)

    @override
    def _clear(self) -> None:
        self._set(b"", None)
