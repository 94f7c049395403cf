"""The profile worker: reads embedded interactions in micro-batches, folds, scores, publishes, acknowledges.

One batch after the other. For each batch:

    1. decode; what cannot be decoded becomes a dead letter
    2. read each user's rows once, fold the user's events one by one, keep the bag after each
    3. score the bags, off the event loop
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
from typing import Any

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams import metrics
from streams.app import new_app, raw_topic
from streams.dead_letters import DeadLetter, dead_letter
from streams.delivery import Event, Publisher
from streams.exceptions import EventError, MessageError
from streams.messages import EmbeddedInteraction, Recommendation, encode_recommendation, parse_embedded
from streams.profile.bag import Bag, fold
from streams.profile.rows import Changes, changes, decode_bag, user_prefix
from streams.profile.scoring import Recommender, ScoringOptions
from streams.profile.store import RocksDBMemory
from streams.profile.table import BagTable
from streams.settings import Settings
from streams.topics import PROFILE_GROUP
from streams.worker import is_current

logger = logging.getLogger(__name__)

EVENT_ID_HEADER = "tastestream-event-id"  # on the null value after an erasure, which has no body to carry it


@dataclass(slots=True)
class _Profile:
    """One user within a batch: the keys on disk, the bag they hold, the bag after the events so far."""

    stored: list[bytes]
    before: Bag
    after: Bag


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
        self._inbox: asyncio.Queue[Event] = asyncio.Queue(maxsize=2 * settings.profile_batch)
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self.app.agent(raw_topic(self.app, settings.embedded_topic), name="profile")(self._receive)
        self.app.task(self._work)
        self.app.on_partitions_revoked.connect(self._on_revoked)

    async def _receive(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._inbox.put(event)

    async def _work(self) -> None:
        while not self._stopping:
            batch = [await self._inbox.get()]
            self._idle.clear()
            while len(batch) < self._settings.profile_batch and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            try:
                await self._process([event for event in batch if is_current(self.app, event)])
            finally:
                self._idle.set()

    async def _on_revoked(self, *_: object, **__: object) -> None:
        """Before partitions move: finish the batch in hand, so that its rows are in the changelog that others recover from."""
        await self._wait_until_idle(self._settings.session_timeout / 2)

    async def drain(self, timeout: float) -> None:
        self._stopping = True
        await self._wait_until_idle(timeout)

    async def _wait_until_idle(self, timeout: float) -> None:
        while not self._inbox.empty():
            self._inbox.get_nowait()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            logger.warning("a batch was still in flight after %.1f s; its events will be delivered again", timeout)

    async def _process(self, batch: list[Event]) -> None:
        if not batch:
            return
        started = perf_counter()
        letters: list[DeadLetter] = []
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        profiles: dict[int, dict[str, _Profile]] = {}
        for event in batch:
            try:
                interaction = self._parse(event.message.value)
            except EventError as error:
                logger.info("dead letter: %s", error)
                metrics.dead_letters.labels(self.name, error.reason).inc()
                letters.append(dead_letter(event, error, worker=self.name, at=datetime.now(UTC)))
                continue
            partition = event.message.partition
            users = profiles.setdefault(partition, {})
            profile = users.get(interaction.user_id)
            if profile is None:
                profile = users[interaction.user_id] = self._load(partition, interaction.user_id)
            profile.after = fold(
                profile.after,
                interaction,
                max_slots=self._settings.max_slots,
                embedder=self._bundle.embedder_version,
            )
            caused.append((interaction, profile.after))

        loop = asyncio.get_running_loop()
        messages = await loop.run_in_executor(None, self._recommend, caused)
        await self._deliver(profiles, caused, messages, letters)
        for event in batch:
            event.ack()
        metrics.events.labels(self.name).inc(len(batch))
        metrics.batch_seconds.labels(self.name).observe(perf_counter() - started)

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
        return interaction

    def _load(self, partition: int, user_id: str) -> _Profile:
        rows = self.table.data.scan(partition, user_prefix(user_id))
        bag = decode_bag(rows)
        return _Profile([key for key, _ in rows], bag, bag)

    def _recommend(self, caused: list[tuple[EmbeddedInteraction, Bag]]) -> list[Recommendation | None]:
        return self._recommender.recommend(caused, now=datetime.now(UTC))

    async def _deliver(
        self,
        profiles: dict[int, dict[str, _Profile]],
        caused: list[tuple[EmbeddedInteraction, Bag]],
        messages: list[Recommendation | None],
        letters: list[DeadLetter],
    ) -> None:
        writes: list[asyncio.Future[None]] = []
        for partition, users in profiles.items():
            rows: Changes = {}
            for user_id, profile in users.items():
                rows |= changes(user_id, profile.stored, profile.before, profile.after)
            if rows:
                writes.append(asyncio.ensure_future(self.table.write(self._publisher, partition, rows)))
        send, topic = self._publisher.send, self._settings.recommendations_topic
        sent: list[asyncio.Future[int]] = []
        for (event, _), message in zip(caused, messages, strict=True):
            key = event.user_id.encode()
            if message is None:
                sent.append(await send(topic, key, None, headers=[(EVENT_ID_HEADER, event.event_id.encode())]))
            else:
                sent.append(await send(topic, key, encode_recommendation(message)))
        sent += [await send(self._settings.dlq_topic, one.key, one.value, headers=one.headers) for one in letters]
        await asyncio.gather(*writes, *sent)
