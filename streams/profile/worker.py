"""The profile worker: reads embedded interactions in micro-batches, folds, scores, publishes, acknowledges.

For each batch:

    1. decode; what cannot be decoded becomes a dead letter
    2. read each user's rows once, from memory where they were written lately
    3. off the event loop, fold the events one by one and score the bag after each
    4. send the changed rows to the changelog, the recommendations and the dead letters; wait until the broker has them all
    5. write the rows to disk, and only now acknowledge the events

Steps 1 to 3 of a batch overlap with 4 and 5 of the one before, whose bags are read from memory until they are on disk. No
batch is sent before the one before it is done. A worker that dies anywhere in between has acknowledged nothing of these
batches, and its disk is not ahead of the changelog.

Batches are as large as what has arrived meanwhile: single events when idle, hundreds under load.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams import metrics
from streams.dead_letter import DeadLetter, dead_letter
from streams.engine.app import new_app
from streams.engine.in_flight import Pending
from streams.engine.publisher import Publisher
from streams.exceptions import EventError, MessageError
from streams.kafka.records import Outgoing, Record
from streams.kafka.topics import PROFILE_GROUP
from streams.messages import EVENT_ID_HEADER, EmbeddedInteraction, Recommendation, encode_recommendation, parse_embedded
from streams.profile.bag import Bag, fold
from streams.profile.rows import Changes, changes, keys_of
from streams.profile.scoring import Recommender, ScoringOptions
from streams.profile.store import RocksDBMemory
from streams.profile.table import BagTable
from streams.runtime.freeze_guard import FreezeGuard
from streams.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Profile:
    """One user within a batch: the keys on disk, the bag they hold, the bag after the events so far."""

    stored: list[bytes]
    before: Bag
    after: Bag


@dataclass(slots=True)
class _Work:
    """A batch, and what it comes to."""

    batch: list[Pending]
    interactions: list[tuple[EmbeddedInteraction, _Profile]] = field(default_factory=list)
    profiles: dict[int, dict[str, _Profile]] = field(default_factory=dict)  # by partition and user
    records: list[Outgoing] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    started: float = field(default_factory=perf_counter)  # seconds


class ProfileWorker:
    """Keeps the bags of the partitions that it is assigned, and publishes a recommendation for each event."""

    name = "profile"
    gc_allocations = 20_000  # Python's 700 is a batch of ten events, and a quarter of their cost

    def __init__(self, settings: Settings, bundle: Bundle, folder: Path, partitions: int) -> None:
        self._settings = settings
        self._bundle = bundle
        self.app = new_app(
            PROFILE_GROUP,
            settings,
            folder / "faust",
            settings.embedded_topic,
            max_in_flight=2 * settings.profile_batch,
            finish_before_revocation=True,
        )
        self._publisher = Publisher(self.app)
        self.table = BagTable(
            self.app,
            partitions=partitions,
            folder=folder / "bags",
            memory=RocksDBMemory(settings.rocksdb_memory),
            publisher=self._publisher,
            embedder=bundle.embedder_version,
            kafka=settings.aiokafka(),
            recent_slots=settings.recent_items,
        )
        self.app.tables.add(self.table)
        options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
        self._recommender = Recommender(bundle, bundle.aggregator(settings.model_threads), options)
        self._delivery: asyncio.Task[None] | None = None  # of the batch before
        self._unwritten: dict[tuple[int, str], Bag] = {}  # the bags of that batch, which are not on disk yet
        self._guard = FreezeGuard(settings.session_timeout)
        self.app.before_send = self._guard.check
        self.app.task(self._work)
        self.app.task(self._guard.keep)

    async def _work(self) -> None:
        while True:
            await self._process(await self.app.in_flight.take(self._settings.profile_batch))

    async def _process(self, batch: list[Pending]) -> None:
        """Prepare a batch while the one before is being delivered, then begin to deliver it."""
        work = self._parsed(batch)
        try:
            work.records = await asyncio.get_running_loop().run_in_executor(None, self._recommend, work)
        except Exception as error:  # our defect must neither lose an event nor hold up its partition for ever
            if len(batch) > 1:
                logger.warning("a batch of %d events failed and is tried one by one: %r", len(batch), error)
                for pending in batch:
                    await self._process([pending])
                return
            logger.exception("dead letter: an unexpected error")
            letter = self._letter(batch[0].record, EventError("internal_error", repr(error)))
            work = _Work(batch, letters=[letter])
        await self.delivered()
        self._guard.check()
        if any(pending.forgotten for pending in batch):
            return  # a rebalance came in between: nothing was sent yet, and all of it is delivered again
        self._unwritten = {
            (partition, user_id): profile.after
            for partition, users in work.profiles.items()
            for user_id, profile in users.items()
        }
        self._delivery = asyncio.create_task(self._finish(work))

    async def delivered(self) -> None:
        """Wait until no batch is being delivered. Raises what a delivery raised."""
        if self._delivery is not None:
            await self._delivery

    async def _finish(self, work: _Work) -> None:
        """Deliver a batch and acknowledge it."""
        try:
            await self._deliver(work.profiles, work.records, work.letters)
        except Exception as error:
            await self.app.crash(error)
            raise
        self._unwritten = {}
        for pending in work.batch:
            pending.finish()
        metrics.events.labels(self.name).inc(len(work.batch))
        metrics.batch_seconds.labels(self.name).observe(perf_counter() - work.started)

    def _parsed(self, batch: list[Pending]) -> _Work:
        """The events of a batch with the profiles that they will change, and dead letters for what is none."""
        work = _Work(batch)
        for pending in batch:
            record = pending.record
            try:
                interaction = self._parse(record.value)
            except EventError as error:
                logger.info("dead letter: %s", error)
                work.letters.append(self._letter(record, error))
                continue
            users = work.profiles.setdefault(record.partition, {})
            profile = users.get(interaction.user_id)
            if profile is None:
                profile = users[interaction.user_id] = self._load(record.partition, interaction.user_id)
            work.interactions.append((interaction, profile))
        return work

    def _letter(self, record: Record, error: EventError) -> DeadLetter:
        metrics.dead_letters.labels(self.name, error.reason).inc()
        return dead_letter(record, error, worker=self.name, at=datetime.now(UTC))

    def _parse(self, value: bytes | None) -> EmbeddedInteraction:
        interaction = parse_embedded(value)
        ours = interaction.embedder == self._bundle.embedder_version
        expected = HEADER_BYTES + self._bundle.embedding_size
        if ours and interaction.embedding and len(interaction.embedding) != expected:
            raise MessageError(
                "invalid_field",
                f"embedding has {len(interaction.embedding)} bytes, but embedder {interaction.embedder} makes {expected}",
                field="embedding",
            )
        if ours and interaction.embedding and not np.isfinite(np.frombuffer(interaction.embedding, "<f4", 2)).all():
            raise MessageError("invalid_field", "embedding has a range that is not finite", field="embedding")
        return interaction

    def _load(self, partition: int, user_id: str) -> _Profile:
        bag = self._unwritten.get((partition, user_id))
        if bag is not None:
            return _Profile(keys_of(user_id, bag), bag, bag)
        stored, bag = self.table.bag(partition, user_id)
        return _Profile(stored, bag, bag)

    def _recommend(self, work: _Work) -> list[Outgoing]:
        """Fold each event into its user's profile, and score the bag after it: what is published for each."""
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        max_slots, embedder = self._settings.max_slots, self._bundle.embedder_version
        for interaction, profile in work.interactions:
            profile.after = fold(profile.after, interaction, max_slots=max_slots, embedder=embedder)
            caused.append((interaction, profile.after))
        messages = self._recommender.recommend(caused, now=datetime.now(UTC))
        return [_record(interaction, message) for (interaction, _), message in zip(caused, messages, strict=True)]

    async def _deliver(
        self, profiles: dict[int, dict[str, _Profile]], records: list[Outgoing], letters: list[DeadLetter]
    ) -> None:
        writes: list[Coroutine[Any, Any, None]] = []
        for partition, users in profiles.items():
            rows: Changes = {}
            bags: dict[str, Bag] = {}
            for user_id, profile in users.items():
                changed = changes(user_id, profile.stored, profile.before, profile.after)
                if changed:
                    rows |= changed
                    bags[user_id] = profile.after
            if rows:
                writes.append(self.table.write(partition, rows, bags))
        send, settings = self._publisher.send_all, self._settings
        await asyncio.gather(*writes, send(settings.recommendations_topic, records), send(settings.dlq_topic, letters))


def _record(interaction: EmbeddedInteraction, message: Recommendation | None) -> Outgoing:
    key = interaction.user_id.encode()
    if message is None:
        return key, None, [(EVENT_ID_HEADER, interaction.event_id.encode())]
    return key, encode_recommendation(message), ()
