"""The profile worker: reads embedded interactions in micro-batches, folds, scores, publishes, acknowledges.

One batch after the other. For each batch:

    1. decode; what cannot be decoded becomes a dead letter
    2. read each user's rows once
    3. off the event loop, fold the events one by one and score the bag after each
    4. send the changed rows to the changelog, the recommendations and the dead letters; wait until the broker has them all
    5. write the rows to disk, and only now acknowledge the events

A worker that dies anywhere in between has acknowledged nothing of the batch, and its disk is not ahead of the changelog.
Batches are as large as what has arrived meanwhile: single events when idle, hundreds under load.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams import metrics
from streams.dead_letters.record import DeadLetter, dead_letter
from streams.delivery import Publisher
from streams.engine.app import new_app
from streams.engine.intake import Headers, Pending, Record
from streams.exceptions import EventError, MessageError
from streams.messages import EmbeddedInteraction, Recommendation, encode_recommendation, parse_embedded
from streams.profile.bag import Bag, fold
from streams.profile.rows import Changes, changes, decode_bag, user_prefix
from streams.profile.scoring import Recommender, ScoringOptions
from streams.profile.store import RocksDBMemory
from streams.profile.table import BagTable
from streams.settings import Settings
from streams.topics import PROFILE_GROUP
from streams.worker import FreezeGuard

logger = logging.getLogger(__name__)

EVENT_ID_HEADER = "tastestream-event-id"  # on the null value after an erasure, which has no body to carry it


@dataclass(slots=True)
class _Profile:
    """One user within a batch: the keys on disk, the bag they hold, the bag after the events so far."""

    stored: list[bytes]
    before: Bag
    after: Bag


class _Record(NamedTuple):
    """For `user-recommendations`."""

    key: bytes
    value: bytes | None
    headers: Headers


class ProfileWorker:
    """Keeps the bags of the partitions that it is assigned, and publishes a recommendation for each event."""

    name = "profile"

    def __init__(self, settings: Settings, bundle: Bundle, folder: Path, partitions: int) -> None:
        self._settings = settings
        self._bundle = bundle
        self.app = new_app(
            PROFILE_GROUP,
            settings,
            folder / "faust",
            settings.embedded_topic,
            in_flight=2 * settings.profile_batch,
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
        )
        self.app.tables.add(self.table)
        options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
        self._recommender = Recommender(bundle, bundle.aggregator(settings.model_threads), options)
        self._guard = FreezeGuard(settings.session_timeout)
        self.app.before_send = self._guard.check
        self.app.task(self._work)
        self.app.task(self._guard.keep)

    async def _work(self) -> None:
        while True:
            await self._process(await self.app.intake.take(self._settings.profile_batch))

    async def _process(self, batch: list[Pending]) -> None:
        started = perf_counter()
        letters: list[DeadLetter] = []
        interactions: list[tuple[EmbeddedInteraction, _Profile]] = []
        profiles: dict[int, dict[str, _Profile]] = {}
        for pending in batch:
            record = pending.record
            try:
                interaction = self._parse(record.value)
            except EventError as error:
                logger.info("dead letter: %s", error)
                letters.append(self._letter(pending.record, error))
                continue
            users = profiles.setdefault(record.partition, {})
            profile = users.get(interaction.user_id)
            if profile is None:
                profile = users[interaction.user_id] = self._load(record.partition, interaction.user_id)
            interactions.append((interaction, profile))
        try:
            records = await asyncio.get_running_loop().run_in_executor(None, self._recommend, interactions)
        except Exception as error:  # our defect must neither lose an event nor hold up its partition for ever
            if len(batch) > 1:
                logger.warning("a batch of %d events failed and is tried one by one: %r", len(batch), error)
                for pending in batch:
                    await self._process([pending])
                return
            logger.exception("dead letter: an unexpected error")
            letters = [self._letter(batch[0].record, EventError("internal_error", repr(error)))]
            profiles, records = {}, []

        self._guard.check()
        if any(pending.forgotten for pending in batch):
            return  # a rebalance came in between: nothing was sent yet, and all of it is delivered again
        await self._deliver(profiles, records, letters)
        for pending in batch:
            pending.finish()
        metrics.events.labels(self.name).inc(len(batch))
        metrics.batch_seconds.labels(self.name).observe(perf_counter() - started)

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
        rows = self.table.data.scan(partition, user_prefix(user_id))
        bag = decode_bag(rows)
        return _Profile([key for key, _ in rows], bag, bag)

    def _recommend(self, interactions: list[tuple[EmbeddedInteraction, _Profile]]) -> list[_Record]:
        """Fold each event into its user's profile, and score the bag after it: what is published for each."""
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        max_slots, embedder = self._settings.max_slots, self._bundle.embedder_version
        for interaction, profile in interactions:
            profile.after = fold(profile.after, interaction, max_slots=max_slots, embedder=embedder)
            caused.append((interaction, profile.after))
        messages = self._recommender.recommend(caused, now=datetime.now(UTC))
        return [_record(interaction, message) for (interaction, _), message in zip(caused, messages, strict=True)]

    async def _deliver(
        self, profiles: dict[int, dict[str, _Profile]], records: list[_Record], letters: list[DeadLetter]
    ) -> None:
        writes: list[asyncio.Future[None]] = []
        for partition, users in profiles.items():
            rows: Changes = {}
            for user_id, profile in users.items():
                rows |= changes(user_id, profile.stored, profile.before, profile.after)
            if rows:
                writes.append(asyncio.ensure_future(self.table.write(partition, rows)))
        send = self._publisher.send
        topic = self._settings.recommendations_topic
        sent = [await send(topic, one.key, one.value, headers=one.headers) for one in records]
        topic = self._settings.dlq_topic
        sent += [await send(topic, one.key, one.value, headers=one.headers) for one in letters]
        await asyncio.gather(*writes, *sent)


def _record(interaction: EmbeddedInteraction, message: Recommendation | None) -> _Record:
    key = interaction.user_id.encode()
    if message is None:
        return _Record(key, None, [(EVENT_ID_HEADER, interaction.event_id.encode())])
    return _Record(key, encode_recommendation(message), [])
