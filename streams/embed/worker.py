"""The embed worker: reads interactions, finds the embedding of each picture, publishes the embedded interaction.

Events are worked on side by side, so that a slow picture holds back nobody else's event; the fold behind does not mind the
order. They are acknowledged in order all the same: an offset is committed only when everything before it is delivered.
What cannot be processed becomes a dead letter, and the partition goes on.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import NamedTuple

from model.bundle import Bundle
from streams import metrics
from streams.dead_letter import dead_letter
from streams.embed.embedding_cache import EmbeddingCache
from streams.embed.opening import open_embedding_cache
from streams.engine.app import new_app
from streams.engine.in_flight import Pending
from streams.engine.publisher import Publisher
from streams.exceptions import EventError
from streams.kafka.records import Headers, Record
from streams.kafka.topics import EMBED_GROUP
from streams.messages import PICTURED, EmbeddedInteraction, encode_embedded, parse_interaction, with_embedding
from streams.settings import Settings

logger = logging.getLogger(__name__)

SENDS = 1024  # records with the producer at a time: it wakes all that wait for room, for each that gets it


class _Outcome(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class EmbedWorker:
    """Turns interactions into embedded interactions."""

    name = "embed"
    gc_allocations = 700  # Python's own: what a failed fetch leaves in a cycle may hold a picture of ten megabytes

    def __init__(self, settings: Settings, bundle: Bundle, folder: Path) -> None:
        self._settings = settings
        self._bundle = bundle
        self._folder = folder
        self.app = new_app(
            EMBED_GROUP,
            settings,
            folder / "faust",
            settings.interactions_topic,
            max_in_flight=settings.embed_in_flight,
            finish_before_revocation=False,  # there is no state to protect, and a picture may be slow
        )
        self._publisher = Publisher(self.app)
        self._sends = asyncio.Semaphore(SENDS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = AsyncExitStack()
        self._pictures: EmbeddingCache | None = None
        self.app.task(self._work)

    async def __aenter__(self) -> "EmbedWorker":
        self._pictures = await self._open.enter_async_context(
            open_embedding_cache(
                self._settings,
                self._bundle,
                self._folder,
                attempted=self.app.in_flight.progressed,
                crowded=lambda: self.app.in_flight.crowded,
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._open.aclose()

    async def _work(self) -> None:
        while True:
            [pending] = await self.app.in_flight.take(1)
            task = asyncio.create_task(self._handle(pending))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            metrics.in_flight.labels(self.name).set(len(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        metrics.in_flight.labels(self.name).set(len(self._tasks))

    async def _handle(self, pending: Pending) -> None:
        try:
            outcome = await self._outcome(pending.record)
            async with self._sends:
                await self._publisher.send(outcome.topic, outcome.key, outcome.value, headers=outcome.headers)
        except Exception as error:  # noqa: BLE001 -- above all DeliveryError: an event left pending must not go unnoticed
            await self.app.crash(error)
        else:
            pending.finish()
            metrics.events.labels(self.name).inc()

    async def _outcome(self, record: Record) -> _Outcome:
        """What the event becomes: an embedded interaction, or a dead letter."""
        try:
            embedded = await self._embedded(record.value)
        except EventError as error:
            logger.info("dead letter: %s", error)
            problem = error
        except Exception as error:  # our defect must neither lose the event nor hold up its partition for ever
            logger.exception("dead letter: an unexpected error")
            problem = EventError("internal_error", repr(error))
        else:
            return _Outcome(self._settings.embedded_topic, embedded.user_id.encode(), encode_embedded(embedded))
        metrics.dead_letters.labels(self.name, problem.reason).inc()
        return _Outcome(self._settings.dlq_topic, *dead_letter(record, problem, worker=self.name, at=datetime.now(UTC)))

    async def _embedded(self, value: bytes | None) -> EmbeddedInteraction:
        interaction = parse_interaction(value, now=time(), max_future=self._settings.max_future)
        embedding = b""
        if interaction.type in PICTURED:
            if self._pictures is None:
                raise RuntimeError("the worker has to be entered before its app starts")
            embedding = await self._pictures.embedding(interaction.image_url)
        return with_embedding(interaction, self._bundle.embedder_version, embedding)
