"""The bags as a Faust table: the changelog topic in front of the store.

Faust declares the topic and assigns its partitions. We write ourselves: Faust would write to disk first, only log a failed
changelog record, and take the partition from a context variable. Here a change is sent, awaited, and only then written to disk.
We also recover ourselves, because rows are merged (`changelog.py`), and because it is fast.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.tables import Table
from faust.types import TP
from mode.utils.logging import get_logger
from typing_extensions import override

from streams import metrics
from streams.engine.app import App
from streams.engine.publisher import Publisher
from streams.exceptions import DeliveryError
from streams.kafka.metadata import topics_now
from streams.kafka.records import UnreadableRecord
from streams.profile.bag import Bag
from streams.profile.changelog import Merge
from streams.profile.recent import RecentBags
from streams.profile.rows import Changes, decode_bag, fault, keys_of, slot_key, user_prefix
from streams.profile.store import BagStore, RocksDBMemory
from streams.settings.names import BAGS_TABLE

logger = logging.getLogger(__name__)

RECOVERY_BATCH = 1000  # records; other tasks run between batches
PROGRESS_INTERVAL = 5.0  # seconds between two log lines


class Watcher(Protocol):
    """Is told what happens to the bags on disk, as it happens."""

    def opened(self, partition: int) -> None:
        """The bags of a partition are recovered: from now on `written` tells of each change."""

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """The disk holds other bags of some users."""

    def closed(self, partition: int) -> None:
        """The bags of a partition are there no longer, or change in another way."""


class BagTable(Table[bytes, bytes]):
    """A table that is read by user and written by partition."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    data: BagStore  # pyright: ignore[reportIncompatibleVariableOverride] -- _new_store makes it

    def __init__(
        self,
        app: App,
        *,
        partitions: int,
        folder: Path,
        memory: RocksDBMemory,
        publisher: Publisher,
        row_bytes: Mapping[str, int],
        kafka: dict[str, Any],
        recent_slots: int,
        recent_bytes: int,
    ) -> None:
        """Make the table.

        Args:
            app: that the table belongs to.
            partitions: number of partitions that the bags are spread over.
            folder: of the RocksDB databases.
            memory: shared by the databases.
            publisher: sends the changelog.
            row_bytes: length of the embeddings of each embedder in use, by its version.
            kafka: connection arguments of an aiokafka client.
            recent_slots: capacity of the cache of recently written bags.
            recent_bytes: the same in bytes.
        """
        self._folder = folder
        self._memory = memory
        self._publisher = publisher
        self._row_bytes = row_bytes
        self._kafka = kafka
        self._recent = RecentBags(recent_slots, recent_bytes)
        self.watcher: Watcher | None = None  # the worker sets it before the start
        self.recovered = 0  # changelog records read since the start: grows while a recovery makes progress
        super().__init__(app, name=BAGS_TABLE, partitions=partitions, key_type=bytes, value_type=bytes)

    @override
    def _new_store(self) -> BagStore:
        return BagStore(
            "rocksdb:",
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
            folder=self._folder,
            memory=self._memory,
            closed=self._forget,
        )

    def bag(self, partition: int, user_id: str) -> tuple[list[bytes], Bag]:
        """Read a user's bag.

        Returns:
            The keys of the rows on disk, including those that the floor hides, and the bag.

        Raises:
            KeyError: the partition is not assigned.
            StateError: RocksDB reports a failure.
            UnknownRowFormat: another version of tastestream wrote a row.
        """
        bag = self._recent.get(partition, user_id)
        if bag is not None:
            return keys_of(user_id, bag), bag
        unusable: set[bytes] = set()

        def pass_over(key: bytes, what: str) -> None:
            unusable.add(key)
            _quarantine(partition, key, what)

        rows = self.data.scan(partition, user_prefix(user_id))
        bag = decode_bag(rows, pass_over)
        for slot in bag.slots.values():
            for picture in slot.pictures:
                found = len(picture.embedding)
                expected = self._row_bytes.get(picture.embedder_version, found)
                if found != expected:
                    what = f"its embedding has {found} bytes; its embedder makes {expected}"
                    _quarantine(partition, slot_key(user_id, slot.item_id), what)
        return [key for key, _ in rows if key not in unusable], bag

    def _scan(self, partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The rows of a user on disk that can be used."""
        return [row for row in self.data.scan(partition, prefix) if _usable(partition, *row)]

    def _row(self, partition: int, key: bytes) -> bytes | None:
        row = self.data.row(partition, key)
        return row if row is None or _usable(partition, key, row) else None

    def _forget(self, partition: int) -> None:
        """The disk of a partition may change in another way from now on."""
        self._recent.forget(partition)
        if self.watcher is not None:
            self.watcher.closed(partition)

    async def write(self, partition: int, rows: Changes, bags: Mapping[str, Bag], before: Mapping[str, Bag]) -> None:
        """Send rows to the changelog, wait until the broker has them, then write them to disk.

        Args:
            partition: of the rows.
            rows: the `changes` of some users.
            bags: the bags that these rows make, by user.
            before: the bags that the disk holds of these users.

        Raises:
            DeliveryError: the broker did not accept the rows, another worker has written to the partition, or the topic was
                truncated or re-created. The worker has to start again from the changelog. The disk is untouched, except that
                the database of the last case is dropped.
        """
        last = await self._append(partition, rows, after=self.data.last_offset(partition))
        self.data.write(partition, rows, last)
        for user_id, bag in bags.items():
            self._recent.put(partition, user_id, bag)
        if self.watcher is not None:
            # Without an `await` since the rows are on disk, so that whoever scans it misses nothing.
            self.watcher.written(partition, before, bags)

    async def _append(self, partition: int, rows: Changes, *, after: int) -> int:
        """Send rows to the changelog, whose last offset is `after`. Returns the new last offset. Raises DeliveryError."""
        topic = self.changelog_topic_name
        records = [(key, value, ()) for key, value in rows.items()]
        last = (await self._publisher.send_all(topic, records, partition=partition))[partition]
        if last == after + len(rows):
            return last
        if last < after + len(rows):  # it holds none, or not all, of the rows before these
            # With these rows its end may be above the offset on disk, so that the next start would not notice.
            self.data.drop(partition)
            raise DeliveryError(
                f"partition {partition} of {topic} was truncated or re-created: "
                f"{len(rows)} rows sent after offset {after} end at {last}"
            )
        written = await self._read(partition, after + 1, last)
        if usable_rows(partition, [one for one in written if (one.key, one.value) not in rows.items()]):
            raise DeliveryError(
                f"another worker writes to partition {partition} of {topic}: {len(rows)} rows sent after offset {after} end at {last}"
            )
        return last

    async def _read(self, partition: int, first: int, last: int) -> list[Any]:
        """The records of the changelog from one offset to another, both included."""
        tp = TopicPartition(self.changelog_topic_name, partition)
        found: list[Any] = []
        async with self._reader() as consumer:
            consumer.assign([tp])
            consumer.seek(tp, first)
            while await consumer.position(tp) <= last:
                for records in (await consumer.getmany(tp, timeout_ms=1000)).values():
                    found += [record for record in records if record.offset <= last]
        return found

    def _reader(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._kafka,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 * 1024**2,
            # Our rows belong to no transaction. Reading committed would stop at a transaction that somebody else left open,
            # and lose our rows above it.
            isolation_level="read_uncommitted",
        )

    # -- recovery

    async def recover(self, partitions: set[TP]) -> None:
        """Bring the databases of these changelog partitions up to the end of the topic; open or create them as needed.

        A database that is ahead of the topic, or names another id, belongs to a topic that was deleted and created again. It is
        dropped.

        Raises:
            StateError: RocksDB reports a failure.
            KafkaError: the broker reports a failure.
        """
        if not partitions:
            return
        for tp in partitions:
            self._forget(tp.partition)
        async with self._reader() as consumer:
            await self._read_back(consumer, [TopicPartition(tp.topic, tp.partition) for tp in sorted(partitions)])
        if self.watcher is not None:
            for tp in sorted(partitions):
                self.watcher.opened(tp.partition)

    async def _read_back(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        started = logged = monotonic()
        before = self.recovered
        consumer.assign(partitions)
        # Before the offsets: a topic that is re-created in between is noticed at the next start.
        described = (await topics_now(consumer._client, [partitions[0].topic])).get(partitions[0].topic)
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        merges: dict[TopicPartition, Merge] = {}
        for tp in partitions:
            offset = self._opened(tp, ends[tp], described.id if described else "")
            consumer.seek(tp, max(offset + 1, starts[tp]))
            row, scan = partial(self._row, tp.partition), partial(self._scan, tp.partition)
            merges[tp] = Merge(row, scan, kept=self._row_bytes)
        behind = set(partitions)
        while behind := {tp for tp in behind if await consumer.position(tp) < ends[tp]}:
            for tp, records in (await consumer.getmany(*behind, timeout_ms=1000, max_records=RECOVERY_BATCH)).items():
                self.data.write(tp.partition, merges[tp].apply(usable_rows(tp.partition, records)))
                self.recovered += len(records)
            if monotonic() - logged > PROGRESS_INTERVAL:
                logged = monotonic()
                left = sum([ends[tp] - await consumer.position(tp) for tp in behind])
                logger.info("recovering: %d changelog records read, at most %d left", self.recovered - before, left)
        for tp in partitions:
            await self._finish(tp.partition, merges[tp], ends[tp] - 1)
        logger.info(
            "recovered partitions %s from %d changelog records in %.1f s",
            ", ".join(str(tp.partition) for tp in partitions), self.recovered - before, monotonic() - started,
        )  # fmt: skip

    def _opened(self, tp: TopicPartition, end: int, topic_id: str) -> int:
        """Open the database of a partition. Returns the changelog offset that it holds.

        Args:
            tp: partition of the changelog.
            end: its end.
            topic_id: the id of the topic; "" if the broker has no ids.
        """
        offset, found = self.data.open(tp.partition), self.data.topic_id(tp.partition)
        if offset >= end or (found and topic_id and found != topic_id):
            logger.warning(
                "partition %d: the bags on disk are at offset %d, but %s ends at %d: the topic was re-created; recovering from it",
                tp.partition, offset, tp.topic, end,
            )  # fmt: skip
            self.data.drop(tp.partition)
            offset, found = self.data.open(tp.partition), ""
        if topic_id and found != topic_id:
            self.data.write_topic_id(tp.partition, topic_id)
        return offset

    async def _finish(self, partition: int, merge: Merge, last: int) -> None:
        for cut in merge.finish():
            self.data.write(partition, cut)
            await asyncio.sleep(0)
        if repairs := merge.repairs():
            logger.warning("partition %d: writing %d merged rows to the changelog again", partition, len(repairs))
            last = await self._append(partition, repairs, after=last)
        # The offset comes last, so that a recovery that dies before it finds the same repairs again.
        self.data.write(partition, {}, last)


def usable_rows(partition: int, records: Iterable[Any]) -> list[tuple[bytes, bytes | None]]:
    """The rows in changelog records, without those that cannot be used."""
    return [
        (record.key, record.value)
        for record in records
        if _readable(record) and _usable(partition, record.key, record.value)
    ]


def _readable(record: Any) -> bool:
    """Whether a changelog record could be read; otherwise it is counted and logged."""
    if not isinstance(record, UnreadableRecord):
        return True
    metrics.quarantined_rows.inc(record.offset - record.first_offset + 1)
    logger.warning(
        "partition %d: passed over the rows of the bags at the offsets %d to %d of the changelog: %s",
        record.partition, record.first_offset, record.offset, record.problem,
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
    logger.warning("partition %d: passed over a row of the bags, key %r: %s", partition, (key or b"")[:64], what)
