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
from typing import Any, NamedTuple

import numpy as np

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams import metrics
from streams.app import new_app, raw_topic
from streams.dead_letters.record import DeadLetter, dead_letter
from streams.delivery import Event, Headers, InOrderAcks, Pending, Publisher
from streams.exceptions import DeliveryError, EventError, MessageError
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
        self.app = new_app(PROFILE_GROUP, settings, folder / "faust")
        self.table = BagTable(
            self.app, partitions=partitions, folder=folder / "bags", memory=RocksDBMemory(settings.rocksdb_memory)
        )
        self.app.tables.add(self.table)
        self._publisher = Publisher(self.app)
        options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
        self._recommender = Recommender(bundle, bundle.aggregator(settings.model_threads), options)
        self.acks = InOrderAcks()
        self._inbox: asyncio.Queue[Pending] = asyncio.Queue(maxsize=2 * settings.profile_batch)
        self._idle = asyncio.Event()
        self._idle.set()
        self._guard = FreezeGuard(settings.session_timeout)
        self.app.agent(raw_topic(self.app, settings.embedded_topic), name="profile")(self._receive)
        self.app.task(self._work)
        self.app.task(self._beat)
        self.app.on_partitions_revoked.connect(self._on_revoked)

    async def _receive(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._inbox.put(self.acks.arrived(event))

    async def _work(self) -> None:
        self._guard.beat()  # recovery may have taken long
        while True:
            batch = [await self._inbox.get()]
            self._idle.clear()
            while len(batch) < self._settings.profile_batch and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            try:
                await self._process([pending for pending in batch if not pending.forgotten])
            finally:
                self._idle.set()

    async def _beat(self) -> None:
        while True:
            self._guard.beat()
            await asyncio.sleep(self._guard.limit / 6)
            self._refuse_after_standstill()

    def _refuse_after_standstill(self) -> None:
        if self._guard.stood_still:
            raise DeliveryError(
                f"this process stood still for more than {self._guard.limit:g} s; somebody else may have its partitions"
            )

    async def _on_revoked(self, *_: object, **__: object) -> None:
        """Before partitions move: finish the batch in hand, so that its rows are in the changelog that others recover from."""
        self.acks.forget()
        timeout = self._settings.session_timeout / 2
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            logger.warning("partitions move while a batch is in flight, after a wait of %.1f s", timeout)

    async def _process(self, batch: list[Pending]) -> None:
        if not batch:
            return
        started = perf_counter()
        letters: list[DeadLetter] = []
        interactions: list[tuple[EmbeddedInteraction, _Profile]] = []
        profiles: dict[int, dict[str, _Profile]] = {}
        for pending in batch:
            message = pending.event.message
            try:
                interaction = self._parse(message.value)
            except EventError as error:
                logger.info("dead letter: %s", error)
                letters.append(self._letter(pending.event, error))
                continue
            users = profiles.setdefault(message.partition, {})
            profile = users.get(interaction.user_id)
            if profile is None:
                profile = users[interaction.user_id] = self._load(message.partition, interaction.user_id)
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
            letters = [self._letter(batch[0].event, EventError("internal_error", repr(error)))]
            profiles, records = {}, []

        self._refuse_after_standstill()
        if any(pending.forgotten for pending in batch):
            return  # a rebalance came in between: nothing was sent yet, and all of it is delivered again
        await self._deliver(profiles, records, letters)
        for pending in batch:
            pending.finish()
        metrics.events.labels(self.name).inc(len(batch))
        metrics.batch_seconds.labels(self.name).observe(perf_counter() - started)

    def _letter(self, event: Event, error: EventError) -> DeadLetter:
        metrics.dead_letters.labels(self.name, error.reason).inc()
        return dead_letter(event, error, worker=self.name, at=datetime.now(UTC))

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
                writes.append(asyncio.ensure_future(self.table.write(self._publisher, partition, rows)))
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
