"""The bags as a table of Faust: the changelog topic in front of the store.

Faust declares the topic and assigns its partitions. Writing is ours, because Faust would write to disk first, log a failed
changelog record at most, and read the partition from a context variable: here a change is sent, awaited, and only then
written to disk. Reading it back is ours too, because rows are to be joined (`changelog.py`), and fast.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.tables import Table
from faust.types import TP
from mode.utils.logging import get_logger

from streams.engine.app import App
from streams.engine.publisher import Publisher
from streams.exceptions import DeliveryError
from streams.kafka.topics import BAGS_TABLE
from streams.profile.bag import Bag
from streams.profile.changelog import Merge
from streams.profile.recent import RecentBags
from streams.profile.rows import Changes, decode_bag, keys_of, user_prefix
from streams.profile.store import BagStore, RocksDBMemory

logger = logging.getLogger(__name__)

RECOVERY_BATCH = 1000  # records; the event loop turns between batches
PROGRESS_INTERVAL = 5.0  # seconds between two lines of progress


class BagTable(Table[bytes, bytes]):
    """A table whose rows are read by user and written by partition."""

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    data: BagStore  # pyright: ignore[reportIncompatibleVariableOverride] -- it is what _new_store makes

    def __init__(
        self,
        app: App,
        *,
        partitions: int,
        folder: Path,
        memory: RocksDBMemory,
        publisher: Publisher,
        embedder: str,
        kafka: dict[str, Any],
        recent_slots: int,
    ) -> None:
        """embedder: the version in use. kafka: how an aiokafka client connects. recent_slots: kept in memory, decoded."""
        self._folder = folder
        self._memory = memory
        self._publisher = publisher
        self._embedder = embedder
        self._kafka = kafka
        self._recent = RecentBags(recent_slots)
        self.recovered = 0  # records read back since the start: it moves as long as a recovery makes progress
        super().__init__(app, name=BAGS_TABLE, partitions=partitions, key_type=bytes, value_type=bytes)

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
            closed=self._recent.forget,
        )

    def bag(self, partition: int, user_id: str) -> tuple[list[bytes], Bag]:
        """A user's bag as it is on disk, and the keys of the rows there, hidden ones among them.

        Raises KeyError when the partition is not assigned, StateError, and UnknownRowFormat.
        """
        bag = self._recent.get(partition, user_id)
        if bag is not None:
            return keys_of(user_id, bag), bag
        rows = self.data.scan(partition, user_prefix(user_id))
        return [key for key, _ in rows], decode_bag(rows)

    async def write(self, partition: int, rows: Changes, bags: Mapping[str, Bag]) -> None:
        """Send the rows to the changelog, wait until the broker has them, then write them to disk.

        rows: `changes` of some users. bags: what these rows make of them, by user.

        Raises DeliveryError, with the disk untouched, when the broker does not take them, or when records of somebody else
        stand between the last ones and these: then the rows were folded from a state that is not the newest, and the
        worker has to start again from the changelog.
        """
        last = await self._append(partition, rows, after=self.data.last_offset(partition))
        self.data.write(partition, rows, last)
        for user_id, bag in bags.items():
            self._recent.put(partition, user_id, bag)

    async def _append(self, partition: int, rows: Changes, *, after: int) -> int:
        """Send rows to the changelog, whose last offset so far is `after`; gives the last offset with them."""
        topic = self.changelog_topic_name
        records = [(key, value, ()) for key, value in rows.items()]
        last = (await self._publisher.send_all(topic, records, partition=partition))[partition]
        if last != after + len(rows):
            raise DeliveryError(
                f"another worker writes to partition {partition} of {topic}: {len(rows)} rows after offset {after} end at {last}"
            )
        return last

    # -- recovery

    async def recover(self, partitions: set[TP]) -> None:
        """Bring the databases of these changelog partitions up to the topic's end, opening and creating them as needed.

        One that is ahead of the topic belongs to another life of it, and is dropped. Raises StateError and KafkaError.
        """
        if not partitions:
            return
        for tp in partitions:
            self._recent.forget(tp.partition)
        consumer = AIOKafkaConsumer(
            **self._kafka,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 * 1024**2,
            isolation_level="read_uncommitted",
        )
        await consumer.start()
        try:
            await self._read_back(consumer, [TopicPartition(tp.topic, tp.partition) for tp in sorted(partitions)])
        finally:
            await consumer.stop()

    async def _read_back(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        started = spoken = monotonic()
        before = self.recovered
        consumer.assign(partitions)
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        merges: dict[TopicPartition, Merge] = {}
        for tp in partitions:
            offset = self._opened(tp, ends[tp])
            consumer.seek(tp, max(offset + 1, starts[tp]))
            row, scan = partial(self.data.row, tp.partition), partial(self.data.scan, tp.partition)
            merges[tp] = Merge(row, scan, embedder=self._embedder)
        behind = set(partitions)
        while behind := {tp for tp in behind if await consumer.position(tp) < ends[tp]}:
            for tp, records in (await consumer.getmany(*behind, timeout_ms=1000, max_records=RECOVERY_BATCH)).items():
                self.data.write(tp.partition, merges[tp].apply(_rows(records)))
                self.recovered += len(records)
            if monotonic() - spoken > PROGRESS_INTERVAL:
                spoken = monotonic()
                left = sum([ends[tp] - await consumer.position(tp) for tp in behind])
                logger.info(
                    "recovering: %d records of the changelog read, at most %d to go", self.recovered - before, left
                )
        for tp in partitions:
            await self._finish(tp.partition, merges[tp], ends[tp] - 1)
        logger.info(
            "recovered partitions %s from %d records of the changelog in %.1f s",
            ", ".join(str(tp.partition) for tp in partitions), self.recovered - before, monotonic() - started,
        )  # fmt: skip

    def _opened(self, tp: TopicPartition, end: int) -> int:
        """The changelog offset that the database of a partition stands for, once it is open."""
        offset = self.data.open(tp.partition)
        if offset >= end:
            logger.warning(
                "the bags of partition %d are at offset %d, but %s ends at %d: dropped, and recovered from the topic",
                tp.partition, offset, tp.topic, end,
            )  # fmt: skip
            self.data.drop(tp.partition)
            offset = self.data.open(tp.partition)
        return offset

    async def _finish(self, partition: int, merge: Merge, last: int) -> None:
        for cut in merge.finish():
            self.data.write(partition, cut)
            await asyncio.sleep(0)
        if repairs := merge.repairs():
            logger.warning("partition %d: %d rows of the changelog are written again, joined", partition, len(repairs))
            last = await self._append(partition, repairs, after=last)
        # The offset comes last: a recovery that was cut off begins where this one did, and finds the same repairs.
        self.data.write(partition, {}, last)


def _rows(records: Iterable[Any]) -> list[tuple[bytes, bytes | None]]:
    return [(record.key, record.value) for record in records if record.key]
