"""Follows `items` into the catalogue, in no consumer group.

What cannot be used is counted, logged now and then, and passed over: the embed workers make its dead letter. The offsets are on
disk with the items, so reading goes on where it was. It starts over for a topic that was deleted and created again, and after an
absence in which the broker may have dropped the nulls that remove items.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from time import monotonic, time
from typing import TypeVar, TypeVarTuple, Unpack

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient

from streams import metrics
from streams.exceptions import MessageError
from streams.item_messages import parse_item
from streams.kafka.following import CHECK, WAIT, Complaints, Following, share_of_response
from streams.kafka.metadata import DescribedTopic
from streams.kafka.records import Record, value_of
from streams.serve.catalogue.catalogue import ItemCatalogue, Listed
from streams.serve.catalogue.features import ItemFeatures
from streams.serve.catalogue.store import ItemStore, Source
from streams.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Given = TypeVarTuple("Given")

RECORDS = 500  # that are taken at a time
ABSENCE = 43_200.0  # seconds: half of the day for which Kafka keeps a null by default (`delete.retention.ms`)
NOTE = 60.0  # seconds between two notes that everything was read


def why_anew(
    source: Source, offsets: Mapping[int, int], topic: DescribedTopic, ends: Mapping[int, int], now: float
) -> str:
    """Why the topic has to be read from its start; "" if not.

    Args:
        source: what the items on disk are of.
        offsets: the next ones, by partition.
        topic: as it is now.
        ends: of its partitions. Without topic ids, only they tell one topic from another.
        now: seconds since the epoch.
    """
    another = bool(topic.id and source.topic_id) and topic.id != source.topic_id
    if another or any(offset > ends.get(partition, 0) for partition, offset in offsets.items()):
        return "was deleted and created again"
    return "was not read to its end for long" if now - source.read_at > ABSENCE else ""


class ItemFollower:
    """Reads the topic for as long as it runs."""

    def __init__(
        self, settings: Settings, store: ItemStore, catalogue: ItemCatalogue, features: ItemFeatures, thread: Executor
    ) -> None:
        """Does not start yet.

        Args:
            settings: where the broker and the topic are.
            store: knows how far the topic was read.
            catalogue: gets the items.
            features: makes the codes of items whose features are known already.
            thread: runs what uses the disk.
        """
        self._topic = settings.items_topic
        self._store, self._catalogue, self._features, self._thread = store, catalogue, features, thread
        self._following = Following(
            settings,
            self._topic,
            problem="topic %s is not followed, and the catalogue stays as it is: %s; trying again",
            missing="`tastestream topics` creates it",
            logger=logger,
        )
        self.caught_up = asyncio.Event()  # the topic was read to its end once, or cannot be read
        self.lag: int | None = None  # records behind; None while it is not known
        self._complaints = Complaints(self._topic, logger)
        self._next_note = 0.0

    async def run(self) -> None:
        """Follow the topic until it is cancelled."""
        await self._following.run(self._read, self._stopped, share_of_response)

    def _stopped(self, problem: str) -> None:
        self.lag = None
        metrics.catalogue_lag.set(-1)
        if problem:
            self.caught_up.set()

    async def _read(self, client: AIOKafkaClient, consumer: AIOKafkaConsumer, topic: DescribedTopic) -> None:
        partitions = [TopicPartition(self._topic, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        firsts = await consumer.beginning_offsets(partitions)
        offsets = await self._run(self._begin, topic, ends)
        known = {tp: max(offsets.get(tp.partition, 0), firsts[tp]) for tp in partitions}
        for tp, offset in known.items():
            consumer.seek(tp, offset)
        self._following.reached()
        next_check = monotonic() + CHECK
        while True:
            found = await consumer.getmany(timeout_ms=WAIT, max_records=RECORDS)
            self._following.turn(consumer, found)
            records = [record for some in found.values() for record in some]
            positions = {tp: await consumer.position(tp) for tp in partitions}
            if any(positions[tp] < known[tp] for tp in partitions):
                return  # it was truncated, or created again: `_begin` starts over
            known = positions
            if records:
                await self._run(self._take, records, {tp.partition: offset for tp, offset in positions.items()})
            for tp in partitions:
                stable = consumer.last_stable_offset(tp)
                ends[tp] = max(ends[tp], stable if stable is not None else -1)
            self.lag = sum(max(end - positions[tp], 0) for tp, end in ends.items())
            metrics.catalogue_lag.set(self.lag)
            metrics.catalogue_items.set(len(self._catalogue))
            if self.lag == 0:
                self.caught_up.set()
                if monotonic() >= self._next_note:
                    self._next_note = monotonic() + NOTE
                    await self._run(self._note, Source(topic_id=topic.id, read_at=time()))
            if monotonic() >= next_check:
                if await self._following.has_changed(client, topic):
                    return
                next_check = monotonic() + CHECK

    async def _run(self, function: Callable[[Unpack[Given]], T], *given: *Given) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *given)

    def _begin(self, topic: DescribedTopic, ends: dict[TopicPartition, int]) -> dict[int, int]:
        """Where to go on, by partition. Drops what is of another topic, or too old."""
        offsets, begun = self._store.offsets, Source(topic_id=topic.id, read_at=time())
        if not offsets:
            self._store.source = begun
            return {}
        problem = why_anew(self._store.source, offsets, topic, {tp.partition: end for tp, end in ends.items()}, time())
        if not problem:
            return offsets
        logger.warning("topic %s %s; reading it from its start", self._topic, problem)
        self._catalogue.start_over(begun)
        return {}

    def _note(self, source: Source) -> None:
        self._store.source = source
        self._catalogue.cool_down()

    def _take(self, records: Sequence[Record], offsets: dict[int, int]) -> None:
        """Bring records into the catalogue."""
        counts: Counter[str] = Counter()
        listed: list[Listed] = []
        for record in records:
            try:
                parsed = parse_item(record.key, value_of(record))
            except MessageError as error:
                counts["refused"] += 1
                self._complaints.add(1, f"partition {record.partition}, offset {record.offset}: {error}")
                continue
            counts["removed" if parsed.item is None else "kept"] += 1
            listed.append(Listed(parsed, record.timestamp, record.partition))
        self._features.fill(self._catalogue.apply(listed, offsets))
        for what, count in counts.items():
            metrics.catalogue_followed.labels(what).inc(count)
        self._complaints.tell()
