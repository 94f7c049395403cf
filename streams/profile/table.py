"""The bags as a Faust table: the changelog topic in front of the store.

Faust declares the topic and assigns its partitions. We write ourselves: Faust would write to disk first, only log a failed
changelog record, and take the partition from a context variable. Here a change is sent, awaited, and only then written to disk.
We also recover ourselves, because rows are merged (`changelog.py`), and because it is fast.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

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
from streams.profile.bag import Bag
from streams.profile.changelog import Merge
from streams.profile.databases import RocksDBMemory, Watcher
from streams.profile.quarantine import UsableRows, stored_bag, usable_rows
from streams.profile.recent import RecentBags
from streams.profile.rows import Changes, keys_of
from streams.profile.standby import Standby
from streams.profile.store import BagStore
from streams.settings.names import BAGS_TABLE

logger = logging.getLogger(__name__)

RECOVERY_BATCH = 1000  # records; other tasks run between batches
PROGRESS_INTERVAL = 5.0  # seconds between two log lines


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
        self._all = frozenset(range(partitions))
        self._folder = folder
        self._memory = memory
        self._publisher = publisher
        self._row_bytes = row_bytes
        self._kafka = kafka
        self._recent = RecentBags(recent_slots, recent_bytes)
        self.watcher: Watcher | None = None  # the worker sets it before the start
        self.standby: Standby | None = None  # the same; it has the partitions that are not recovered here
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
        return stored_bag(self.data, partition, user_id, self._row_bytes)

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
        if self.standby is not None:
            await self.standby.follow(self._all - {tp.partition for tp in partitions})
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
            offset = self.data.open_for(tp.partition, tp.topic, ends[tp], described.id if described else "")
            consumer.seek(tp, max(offset + 1, starts[tp]))
            rows = UsableRows(self.data, tp.partition)
            merges[tp] = Merge(rows.row, rows.scan, kept=self._row_bytes)
        left: Collection[TopicPartition] = partitions
        while left := await _left(consumer, left, ends):
            metrics.recovery_left.set(sum(left.values()))
            for tp, records in (await consumer.getmany(*left, timeout_ms=1000, max_records=RECOVERY_BATCH)).items():
                self.data.write(tp.partition, merges[tp].apply(usable_rows(tp.partition, records)))
                self.recovered += len(records)
                metrics.recovery_read.inc(len(records))
            if monotonic() - logged > PROGRESS_INTERVAL:
                logged = monotonic()
                logger.info(
                    "recovering: %d changelog records read, at most %d left",
                    self.recovered - before, sum((await _left(consumer, left, ends)).values()),
                )  # fmt: skip
        for tp in partitions:
            await self._finish(tp.partition, merges[tp], ends[tp] - 1)
        metrics.recovery_left.set(0)
        metrics.recovery_seconds.set(monotonic() - started)
        logger.info(
            "recovered partitions %s from %d changelog records in %.1f s",
            ", ".join(str(tp.partition) for tp in partitions), self.recovered - before, monotonic() - started,
        )  # fmt: skip

    async def _finish(self, partition: int, merge: Merge, last: int) -> None:
        for cut in merge.finish():
            self.data.write(partition, cut)
            await asyncio.sleep(0)
        if repairs := merge.repairs():
            logger.warning("partition %d: writing %d merged rows to the changelog again", partition, len(repairs))
            last = await self._append(partition, repairs, after=last)
        # The offset comes last, so that a recovery that dies before it finds the same repairs again.
        self.data.write(partition, {}, last)


async def _left(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The number of offsets that are left to read, for each partition that is not at its end."""
    left = {tp: ends[tp] - await consumer.position(tp) for tp in partitions}
    return {tp: count for tp, count in left.items() if count > 0}
