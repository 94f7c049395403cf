"""The embed worker: reads interactions, finds the embeddings of each picture, publishes embedded interactions.

Events are processed side by side, so that a slow picture delays only its own event; the order does not matter to the fold
that follows. Offsets are committed in order all the same: the in-flight tracker never passes an unfinished event. An event
that cannot be processed becomes a dead letter, and the partition continues. Beside the events, `ItemReader` embeds the pictures of
new items.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import time
from typing import NamedTuple

from msgspec.structs import replace

from model.quantization import is_finite
from streams import metrics
from streams.bundles import Bundles
from streams.dead_letter import dead_letter
from streams.embed.embedding_cache import EmbeddingCache
from streams.embed.items import ItemReader
from streams.embed.opening import open_embedding_cache
from streams.embed.refusal import refusal
from streams.engine.app import Batches, new_app
from streams.engine.in_flight import Pending
from streams.engine.publisher import Publisher
from streams.exceptions import EventError
from streams.kafka.partitioning import partition_of
from streams.kafka.records import Headers, value_of
from streams.messages import PICTURED, EmbeddedInteraction, encode_embedded, parse_interaction, with_embedding
from streams.settings import Settings

logger = logging.getLogger(__name__)

BATCH = 64  # events that the agent starts at a time; how many are in flight is EMBED_IN_FLIGHT
SENDS = 1024  # concurrent sends: aiokafka's producer wakes every waiting sender each time it has room for one


class _Outcome(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None  # the key decides, over all partitions of the topic


class EmbedWorker:
    """Turns interactions into embedded interactions. Enter it before its app starts."""

    name = "embed"
    gc_allocations = 700  # Python's default: a failed fetch can leave a reference cycle that holds a 10 MB picture

    def __init__(self, settings: Settings, bundles: Bundles, folder: Path, partitions: int) -> None:
        """Make a worker that sends embedded interactions over the first `partitions` partitions of their topic."""
        self._settings = settings
        self._served = bundles.served.embedder_version
        self._next = bundles.next.embedder_version if bundles.next else ""
        self._code_bytes = bundles.row_bytes
        self._bundles = bundles
        self._folder = folder
        self._partitions = partitions
        self.app = new_app(
            settings.embed_group,
            settings,
            folder / "faust",
            max_in_flight=settings.embed_in_flight,
            finish_before_revocation=False,  # no state to protect, and a picture may be slow
        )
        self.app.read(settings.interactions_topic, self.agent, name=self.name, limit=BATCH)
        self._publisher = Publisher(self.app)
        self._sends = asyncio.Semaphore(SENDS)
        self._open = AsyncExitStack()
        self._embeddings: EmbeddingCache | None = None

    async def __aenter__(self) -> "EmbedWorker":
        settings = self._settings
        send = partial(self._publisher.send_all, settings.features_topic) if settings.share_features else None
        self._embeddings = await self._open.enter_async_context(
            open_embedding_cache(
                settings, self._bundles, self._folder, send=send, attempted=self.app.in_flight.progressed
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def swap(self, bundles: Bundles) -> None:
        """Nothing to do: bundles of the same embedders make the same embeddings."""

    async def agent(self, batches: Batches) -> None:
        """The Faust agent: process each event in a task of its own. A task that fails crashes the app."""
        async with self._reading_items(), asyncio.TaskGroup() as events:
            async for batch in batches:
                for pending in batch:
                    events.create_task(self._process(pending))

    @asynccontextmanager
    async def _reading_items(self) -> AsyncGenerator[None]:
        """Embed the pictures of new items while this is open. Items that cannot be read stop no event."""
        if not self._settings.share_features:
            logger.info(
                "SHARE_FEATURES is off: pictures of topic %s are embedded with their first event, because nobody else would get "
                "their features before",
                self._settings.items_topic,
            )
        if self._embeddings is None or not self._settings.share_features:
            yield
            return
        reader = ItemReader(self._settings, self._embeddings, self._publisher, worker=self.name)
        reading = asyncio.create_task(reader.run())
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _process(self, pending: Pending) -> None:
        """Process one event: deliver its outcome, then finish it. Raises DeliveryError."""
        with metrics.in_flight.labels(self.name).track_inprogress():
            outcome = await self._outcome(pending)
            async with self._sends:
                await self._publisher.send(
                    outcome.topic, outcome.key, outcome.value, headers=outcome.headers, partition=outcome.partition
                )
            pending.finish()
            metrics.events.labels(self.name).inc()

    async def _outcome(self, pending: Pending) -> _Outcome:
        """Turn an event into an embedded interaction, or into a dead letter."""
        made = await refusal(self._embedded(pending))
        if isinstance(made, EventError):
            return self._refused(pending, made)
        key = made.user_id.encode()
        partition = partition_of(key, self._partitions)
        return _Outcome(self._settings.embedded_topic, key, encode_embedded(made), partition=partition)

    def _refused(self, pending: Pending, problem: EventError) -> _Outcome:
        metrics.dead_letters.labels(self.name, problem.reason).inc()
        return _Outcome(
            self._settings.dlq_topic, *dead_letter(pending.record, problem, worker=self.name, at=datetime.now(UTC))
        )

    async def _embedded(self, pending: Pending) -> EmbeddedInteraction:
        pending.check()
        interaction = parse_interaction(
            value_of(pending.record),
            now=time(),
            max_future=self._settings.max_future,
            earliest=self._settings.earliest,
        )
        if interaction.type not in PICTURED:
            return with_embedding(interaction, "", b"")
        if self._embeddings is None:
            raise RuntimeError("the worker was not entered before its app started")
        codes = await self._embeddings.codes(interaction.image_url, pending.crowded)
        if not self._fits(self._served, codes.served):
            raise EventError(
                "invalid_embedding",
                f"the embedder of the bundle made an embedding of {len(codes.served)} bytes that is not finite, or too large, "
                "or of a wrong length; check the bundle",
                field="image_url",
            )
        embedded = with_embedding(interaction, self._served, codes.served)
        if not codes.next or not self._fits(self._next, codes.next):
            return embedded
        return replace(embedded, next_embedder_version=self._next, next_embedding=codes.next)

    def _fits(self, embedder_version: str, code: bytes) -> bool:
        return len(code) == self._code_bytes[embedder_version] and is_finite(code)
