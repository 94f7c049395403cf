"""The copy of the bags on disk: changelog records are merged into it as a recovery merges them, but for ever.

A partition is in one of two states. While it is *gathered*, one merge runs over all records, as in a recovery, and what the
floors cover is removed now and then. Once its end was reached, it is *live*: each batch of records is complete by itself, bags
are cached, and the watchers are told of each change.

The stored offset is written after everything that it covers. Merging is idempotent, so a process that dies at any time merges
some records again, and nothing is lost. Not for: reading the topic (`follower.py`).
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from streams import metrics
from streams.exceptions import StateError
from streams.profile.bag import Bag
from streams.profile.changelog import Merge
from streams.profile.databases import BagDatabases, RocksDBMemory, Watcher, own_key, partitions_on_disk
from streams.profile.quarantine import UsableRows, stored_bag, usable_rows
from streams.profile.recent import RecentBags
from streams.profile.rows import (
    Changes,
    changed,
    decode_bag,
    decode_floor,
    header_of,
    is_header,
    prefix_of,
    user_of,
    user_prefix,
)

logger = logging.getLogger(__name__)
_from_memory, _from_disk = map(metrics.replica_reads.labels, ("memory", "disk"))

SPREAD_KEY = own_key("spread")  # number of partitions of the bags
HELD_KEY = own_key("held")  # when the partition last held everything, seconds since the epoch
ERASED_KEY = own_key("erased")  # there while the files may still hold rows of an erased user

CHECKPOINT = 100_000  # records: as many are read again after a kill while the partition is gathered
RANGES = 100  # erased users above which the whole database is compacted, instead of their ranges
GATHERING = 1.0  # seconds after an erasure in which others join its compaction
BUSY_SHARE = 0.1  # of the time that compaction takes at most, after its first run


class ReplicaStore:
    """The databases of the served partitions."""

    def __init__(
        self, folder: Path, memory: RocksDBMemory, row_bytes: Mapping[str, int], *, recent_slots: int, recent_bytes: int
    ) -> None:
        """Open nothing yet.

        Args:
            folder: of the databases.
            memory: shared by them.
            row_bytes: length of the embeddings of each embedder in use, by its version.
            recent_slots: capacity of the cache of bags.
            recent_bytes: the same in bytes.
        """
        self.databases = BagDatabases(folder, memory, self._closed)
        self.watchers: list[Watcher] = []
        self.lock = asyncio.Lock()  # held while databases are dropped or compacted
        self._folder = folder
        self._row_bytes = row_bytes
        self._recent = RecentBags(recent_slots, recent_bytes)
        self._gathered: dict[int, Merge] = {}
        self._since: dict[int, int] = {}  # records of a gathered partition that the stored offset does not cover
        self._live: set[int] = set()
        self._erased: dict[int, set[bytes] | None] = {}  # prefixes of erased users, by partition; None: too many
        self._to_compact = asyncio.Event()

    # -- the life of a partition

    @property
    def cached(self) -> int:
        """The number of bags in memory."""
        return len(self._recent)

    def on_disk(self) -> list[int]:
        """The partitions that have a database."""
        return partitions_on_disk(self._folder)

    def begin(self, partition: int, *, gather: bool) -> None:
        """Make an open partition live, or gather it first."""
        if self.databases.row(partition, ERASED_KEY) is not None:  # it was not compacted before the process died
            self._to_be_compacted(partition, None)
        if gather:
            self._closed(partition)
            self._gathered[partition] = self._merge(partition)
            self._since[partition] = 0
        elif partition not in self._live:
            self._open(partition)

    def _merge(self, partition: int) -> Merge:
        disk = UsableRows(self.databases, partition)
        return Merge(disk.row, disk.scan, kept=self._row_bytes)

    def is_live(self, partition: int) -> bool:
        """Whether each batch of records is complete by itself."""
        return partition in self._live

    def _open(self, partition: int) -> None:
        self._live.add(partition)
        for watcher in self.watchers:
            watcher.opened(partition)

    def _closed(self, partition: int) -> None:
        """The rows of a partition may change in any way from now on."""
        self._recent.forget(partition)
        self._gathered.pop(partition, None)
        if partition in self._live:
            self._live.discard(partition)
            for watcher in self.watchers:
                watcher.closed(partition)

    # -- reading

    def bag(self, partition: int, user_id: str) -> Bag:
        """A user's bag. Raises StateError and UnknownRowFormat."""
        bag = self._recent.get(partition, user_id)
        if bag is not None:
            _from_memory.inc()
            return bag
        _from_disk.inc()
        bag = self._stored(partition, user_id)
        if partition in self._live and (bag.slots or bag.floor is not None):
            self._recent.put(partition, user_id, bag)
        return bag

    def _stored(self, partition: int, user_id: str) -> Bag:
        try:
            return stored_bag(self.databases, partition, user_id, self._row_bytes)[1]
        except KeyError as error:  # dropped since it was found to be damaged
            raise StateError(f"the bags of partition {partition} are not there: a restart reads them again") from error

    # -- writing

    def take(self, partition: int, records: Iterable[Any], offset: int) -> dict[str, Bag]:
        """Merge changelog records into a partition.

        Args:
            partition: of the records.
            records: in the order of the topic.
            offset: of the last one.

        Returns:
            The bags that changed, by user, with the slots that changed; none of a partition that is gathered.

        Raises:
            StateError: RocksDB reports a failure.
            UnknownRowFormat: another version of tastestream wrote a row.
        """
        rows = usable_rows(partition, records)
        merge = self._gathered.get(partition)
        if merge is not None:
            self._write(partition, merge.apply(rows))
            self._since[partition] += len(rows)
            return {}
        disk = _Remembering(self.databases, partition)
        merge = Merge(disk.row, disk.scan, kept=self._row_bytes)
        written = merge.apply(rows)
        self._write(partition, written)
        for cut in merge.finish():
            self._write(partition, cut)
            written |= cut
        self.databases.write(partition, {}, offset)
        before, after = disk.bags(written)
        for user, by_key in _by_user(written).items():
            if (cached := self._recent.get(partition, user)) is not None:
                self._recent.put(partition, user, changed(user, cached, by_key))
        if after:
            for watcher in self.watchers:
                watcher.written(partition, before, after)
        return after

    def _write(self, partition: int, rows: Changes) -> None:
        """Write rows, and note whose have to leave the files."""
        if not rows:
            return
        erased = {
            prefix_of(key)
            for key, value in rows.items()
            if value and is_header(key) and not decode_floor(value).event_id
        }  # the floor of an erasure is no event
        if erased:
            rows = {ERASED_KEY: b"1", **rows}
            self._to_be_compacted(partition, erased)
        self.databases.write(partition, rows)

    def due(self, partition: int) -> bool:
        """Whether a gathered partition has read enough for a checkpoint."""
        return partition in self._gathered and self._since[partition] >= CHECKPOINT

    async def checkpoint(self, partition: int, offset: int, *, at_end: bool) -> None:
        """Remove what the floors of a gathered partition cover, then store the offset. `at_end`: it is live from now on."""
        merge = self._gathered[partition]
        for cut in merge.finish():
            self._write(partition, cut)
            await asyncio.sleep(0)
        self.databases.write(partition, {}, offset)
        if at_end:
            del self._gathered[partition]
            self._open(partition)
        else:
            self._gathered[partition] = self._merge(partition)
            self._since[partition] = 0

    # -- erased users

    def _to_be_compacted(self, partition: int, prefixes: set[bytes] | None) -> None:
        known = self._erased.get(partition, set[bytes]())
        together = None if known is None or prefixes is None else known | prefixes
        self._erased[partition] = None if together is None or len(together) > RANGES else together
        self._to_compact.set()

    async def compact_erased(self) -> None:
        """Remove the rows of erased users from the files, for as long as it runs, in a thread.

        Raises:
            StateError: RocksDB reports a failure.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._to_compact.wait()
            await asyncio.sleep(GATHERING)
            self._to_compact.clear()
            begun = loop.time()
            for partition in list(self._erased):
                async with self.lock:
                    if partition in self.databases.partitions:
                        await self._compact(partition, self._erased.pop(partition))
                    else:
                        del self._erased[partition]
            await asyncio.sleep((loop.time() - begun) * (1 / BUSY_SHARE - 1))

    async def _compact(self, partition: int, prefixes: set[bytes] | None) -> None:
        work = asyncio.ensure_future(asyncio.to_thread(self.databases.compact, partition, prefixes))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self.databases.interrupt(partition)
            await asyncio.gather(work, return_exceptions=True)
            raise
        if partition not in self._erased:  # none came meanwhile
            self.databases.write(partition, {ERASED_KEY: None})
        # The list of files names the first and the last key of the files before, until it changes again.
        self.databases.flush(partition)


class _Remembering(UsableRows):
    """The rows on disk for one batch: what was read first is remembered."""

    def __init__(self, databases: BagDatabases, partition: int) -> None:
        super().__init__(databases, partition)
        self._before: dict[bytes, bytes | None] = {}

    @override
    def row(self, key: bytes) -> bytes | None:
        found = super().row(key)
        self._before.setdefault(key, found)
        return found

    @override
    def scan(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        rows = super().scan(prefix)
        for key, value in rows:
            self._before.setdefault(key, value)
        return rows

    def bags(self, written: Changes) -> tuple[dict[str, Bag], dict[str, Bag]]:
        """The bags before and after these rows were written, by user: their slots are those whose rows are among them."""
        before: dict[str, Bag] = {}
        after: dict[str, Bag] = {}
        for user, rows in _by_user(written).items():
            floor = header_of(user_prefix(user))
            known = {key: value for key in (floor, *rows) if (value := self._before.get(key)) is not None}
            before[user] = decode_bag(known.items())
            after[user] = changed(user, before[user], rows)
        return before, after


def _by_user(rows: Changes) -> dict[str, Changes]:
    users: dict[str, Changes] = {}
    for key, value in rows.items():
        users.setdefault(user_of(key), {})[key] = value
    return users
