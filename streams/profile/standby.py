"""Follows the changelog of the partitions that this worker does not own, so that it can take them over at once.

A partition that moves here is recovered as always: from the offset that its database holds to the end of the topic. A standby
keeps that offset near the end, so little is left to read. It writes to no topic. What a recovery has to repair in the topic
(`changelog.py`) stays with the owner, so the offset stays below as long as something is to be repaired.

A database is open here or in the table, never in both. `follow` hands it over.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from streams import metrics
from streams.kafka.following import CHECK, CONNECTING, share_of_response
from streams.kafka.metadata import DescribedTopic
from streams.profile.changelog import Merge
from streams.profile.databases import BagDatabases, RocksDBMemory
from streams.profile.following import following_bags
from streams.profile.quarantine import UsableRows, usable_rows
from streams.settings import Settings

logger = logging.getLogger(__name__)

POLL = 500  # milliseconds
CHUNK = 200  # records that are merged in one step: a few milliseconds, in which no event is processed
SAVED = 1.0  # seconds between two stored offsets of a partition whose end was reached
CHECKPOINT = 20_000  # records between two stored offsets on the way to the end
WARM = 1_000  # records below the end from which on a partition is taken over at once


class _Copy:
    """One partition of another worker: how far it was read, and what that leaves to do."""

    def __init__(self, merge: Merge, position: int) -> None:
        self.merge = merge
        self.position = position  # offset of the next record
        self.end: int | None = None  # of the partition at the last answer
        self.unsaved = 0  # records since the stored offset
        self.next_save = 0.0

    @property
    def lag(self) -> int | None:
        return None if self.end is None else max(self.end - self.position, 0)


class Standby:
    """The copies of the partitions that others own."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        memory: RocksDBMemory,
        row_bytes: Mapping[str, int],
        *,
        caught_up: Callable[[], object],
    ) -> None:
        """Follows nothing until `follow` says what.

        Args:
            settings: where the broker and the topic are.
            folder: of the databases, which the table uses too.
            memory: shared by the databases.
            row_bytes: length of the embeddings of each embedder in use, by its version.
            caught_up: called each time that the last of the followed partitions is warm.
        """
        self._topic = settings.bags_changelog
        self._databases = BagDatabases(folder, memory, lambda _: None)
        self._row_bytes = row_bytes
        self._caught_up = caught_up
        self._wanted: frozenset[int] = frozenset()
        self._changed = asyncio.Event()  # other partitions are wanted than are read
        self._copies: dict[int, _Copy] = {}
        self._lock = asyncio.Lock()  # held while copies change
        self._was_warm = False
        self._following = following_bags(
            settings,
            problem="topic %s is not followed, and the bags of other workers are not kept up to date: %s; trying again",
            logger=logger,
        )

    @property
    def held(self) -> frozenset[int]:
        """The partitions whose databases are open here."""
        return self._databases.partitions

    @property
    def warm(self) -> set[int]:
        """The partitions of others that could be taken over at once."""
        copies = list(self._copies.items())  # the thread of aiokafka's client asks, too
        return {number for number, copy in copies if copy.lag is not None and copy.lag <= WARM}

    async def follow(self, partitions: Collection[int]) -> None:
        """Follow these partitions from now on, and no others. The databases of the others are closed when it returns."""
        async with self._lock:
            for gone in self._copies.keys() - set(partitions):
                self._forget(gone)
        self._wanted = frozenset(partitions)
        self._was_warm = False
        self._changed.set()

    async def run(self) -> None:
        """Follow until it is cancelled.

        Raises:
            StartupError: a row has a format of a later version.
            StateError: RocksDB reports a failure.
        """
        try:
            await self._following.run(self._follow, self._stopped, share_of_response)
        finally:
            self._stopped("")

    def _stopped(self, _: str) -> None:
        for partition in list(self._copies):
            self._forget(partition)
        self._changed.set()

    def _forget(self, partition: int) -> None:
        del self._copies[partition]
        self._databases.close(partition)
        metrics.standby_lag.remove(partition)

    async def _follow(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        self._following.reached()
        next_check = monotonic() + CHECK
        while True:
            if self._changed.is_set():
                async with asyncio.timeout(CONNECTING):
                    await self._assign(consumer, topic)
            if not self._wanted:
                await self._changed.wait()
                continue
            found = await consumer.getmany(timeout_ms=POLL, max_records=CHUNK)
            self._following.turn(consumer, found)
            if monotonic() >= next_check:
                if await self._following.has_changed(client, topic):
                    return
                next_check = monotonic() + CHECK
            async with self._lock:
                for tp in consumer.assignment():
                    copy = self._copies.get(tp.partition)
                    if copy is None:  # it was taken over meanwhile
                        continue
                    position = await consumer.position(tp)
                    if position < copy.position:
                        return  # another topic, or a shorter one: `_assign` decides
                    await self._take(tp.partition, copy, found.get(tp, []), position)
                    copy.end = consumer.highwater(tp)
            self._tell()

    async def _assign(self, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        """Read the wanted partitions, each from where its database ends."""
        self._changed.clear()
        tps = [TopicPartition(self._topic, partition) for partition in sorted(self._wanted)]
        consumer.assign(tps)
        if not tps:
            return
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        async with self._lock:
            for tp in tps:
                if tp.partition not in self._wanted:
                    continue  # it was taken over meanwhile, and `_changed` is set again
                copy = self._copies.get(tp.partition)
                if copy is None:
                    offset = self._databases.open_for(tp.partition, self._topic, ends[tp], topic.id)
                    copy = self._copies[tp.partition] = _Copy(self._merge(tp.partition), offset + 1)
                    metrics.standby_lag.labels(tp.partition).set_function(lambda copy=copy: _shown(copy.lag))
                copy.position, copy.end = max(copy.position, starts[tp]), ends[tp]
                consumer.seek(tp, copy.position)

    def _merge(self, partition: int) -> Merge:
        rows = UsableRows(self._databases, partition)
        return Merge(rows.row, rows.scan, kept=self._row_bytes)

    async def _take(self, partition: int, copy: _Copy, records: Iterable[Any], position: int) -> None:
        """Merge the records below a position into a copy, and store how far it is now and then."""
        if position > copy.position:
            self._databases.write(partition, copy.merge.apply(usable_rows(partition, records)))
            copy.unsaved += position - copy.position
            copy.position = position
        at_end = copy.lag == 0 and copy.unsaved > 0 and monotonic() >= copy.next_save
        if not at_end and copy.unsaved < CHECKPOINT:
            return
        for cut in copy.merge.finish():
            self._databases.write(partition, cut)
            await asyncio.sleep(0)
        copy.next_save = monotonic() + SAVED
        copy.unsaved = 0
        if not copy.merge.repairs():
            self._databases.write(partition, {}, copy.position - 1)
            copy.merge = self._merge(partition)

    def _tell(self) -> None:
        """Call `caught_up` if the last of the partitions has become warm."""
        warm = not self._wanted - self.warm
        if warm and not self._was_warm:
            logger.info("the bags of all other partitions are here: %s", ", ".join(map(str, sorted(self._wanted))))
            self._caught_up()
        self._was_warm = warm


def _shown(number: int | None) -> float:
    """A number in the metrics; not a number if it is unknown."""
    return float("nan") if number is None else float(number)
