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
from time import monotonic, time
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
from streams.kafka.records import Headers, sent_at_header, value_of
from streams.kafka.remarks import MAX_CIRCUITS, Circuit
from streams.logs.place import found_event, place, working_on
from streams.messages import PICTURED, EmbeddedInteraction, encode_embedded, parse_interaction, with_embedding
from streams.settings import Settings
from streams.tracing import Tracing

logger = logging.getLogger(__name__)

BATCH = 64  # events that the agent starts at a time; how many are in flight is EMBED_IN_FLIGHT
SENDS = 1024  # concurrent sends: aiokafka's producer wakes every waiting sender each time it has room for one


class _Outcome(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None  # the key decides, over all partitions of the topic
    problem: str = ""  # the reason of a dead letter


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
        self.app.topics_generation = settings.generation
        self._publisher = Publisher(self.app)
        self._sends = asyncio.Semaphore(SENDS)
        # Finding the series of a metric takes longer than counting.
        self._events, self._in_flight = metrics.events.labels(self.name), metrics.in_flight.labels(self.name)
        self._queue, self._delivery = (metrics.stage_seconds.labels(self.name, one) for one in ("queue", "delivery"))
        self.tracing: Tracing | None = None  # the runner sets it before the start
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

    def circuits(self) -> tuple[Circuit, ...]:
        """The hosts that are not asked for pictures now."""
        return self._embeddings.circuits(MAX_CIRCUITS) if self._embeddings else ()

    async def swap(self, bundles: Bundles) -> None:
        """Nothing to do: bundles of the same embedders make the same embeddings."""

    async def send_over(self, settings: Settings, partitions: int) -> None:
        """Send to the embedded interactions of another generation from the next event on, and tell the group.

        The worker joins its group again. Before that it commits what the broker has of the events that were sent before, and the
        others are delivered again. So once the group knows, no event depends on what is still sent to the topic before.

        Args:
            settings: with the names of the generation.
            partitions: number of partitions of its bags.
        """
        self._settings, self._partitions = settings, partitions
        self.app.topics_generation = settings.generation
        logger.info("sending to %s from now on, over %d partitions", settings.embedded_topic, partitions)
        await self.app.consumer.reopen()

    async def agent(self, batches: Batches) -> None:
        """The Faust agent: process each event in a task of its own. A task that fails crashes the app."""
        async with self._reading_items(), asyncio.TaskGroup() as events:
            async for batch in batches:
                now = monotonic()
                for pending in batch:
                    self._queue.observe(now - pending.arrived)
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
        reader = ItemReader(self._settings, self._embeddings, self._publisher, self.app, worker=self.name)
        reading = asyncio.create_task(reader.run())
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _process(self, pending: Pending) -> None:
        """Process one event: deliver its outcome, then finish it. Raises DeliveryError."""
        span = self.tracing.begin(pending.record, self.name) if self.tracing else None
        working_on(pending.record, span.trace_id if span else "")
        self._in_flight.inc()
        try:
            outcome = await self._outcome(pending)
            headers = outcome.headers
            if span is not None and not outcome.problem:  # a dead letter has the headers of its record
                headers = [*headers, *span.headers]
            made = monotonic()
            async with self._sends:
                await self._publisher.send(
                    outcome.topic, outcome.key, outcome.value, headers=headers, partition=outcome.partition
                )
            self._delivery.observe(monotonic() - made)
            if span is not None:
                at = place()
                span.end(at.event_id if at else "", outcome.problem)
            pending.finish()
            self._events.inc()
        finally:
            self._in_flight.dec()

    async def _outcome(self, pending: Pending) -> _Outcome:
        """Turn an event into an embedded interaction, or into a dead letter."""
        made = await refusal(self._embedded(pending))
        if isinstance(made, EventError):
            return self._refused(pending, made)
        key = made.user_id.encode()
        partition = partition_of(key, self._partitions)
        return _Outcome(
            self._settings.embedded_topic, key, encode_embedded(made), sent_at_header(pending.record), partition
        )

    def _refused(self, pending: Pending, problem: EventError) -> _Outcome:
        metrics.dead_letters.labels(self.name, problem.reason).inc()
        letter = dead_letter(pending.record, problem, worker=self.name, at=datetime.now(UTC))
        return _Outcome(self._settings.dlq_topic, *letter, problem=problem.reason)

    async def _embedded(self, pending: Pending) -> EmbeddedInteraction:
        pending.check()
        interaction = parse_interaction(
            value_of(pending.record),
            now=time(),
            max_future=self._settings.max_future,
            earliest=self._settings.earliest,
        )
        found_event(interaction.event_id, interaction.image_url)
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
