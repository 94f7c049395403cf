"""The profile worker: reads embedded interactions in micro-batches, folds, scores, publishes, acknowledges.

For each batch:

    1. decode; a record that cannot be decoded becomes a dead letter, and one of a partition without bags goes to the partition
       of its user's bag
    2. load each user's bag once, from memory if it was written recently
    3. in a thread: fold the events one by one, score the bag after each, encode the changed rows (`batch.py`)
    4. send the rows to the changelog, and the recommendations and dead letters; wait until the broker has all of them
    5. write the rows to disk, then acknowledge the events

Steps 1 to 3 of a batch overlap with 4 and 5 of the batch before, whose bags are read from memory until they are on disk.
Nothing of a batch is sent before the batch before it is done. A worker that dies anywhere in between has acknowledged
nothing of these batches, and its disk is not ahead of the changelog.

A batch is as large as what has arrived meanwhile: single events when idle, hundreds under load.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import cast

from model.bundle import Bundle
from model.quantization import is_finite
from streams import metrics
from streams.bundles import Bundles
from streams.dead_letter import DeadLetter, dead_letter
from streams.engine.app import Batches, new_app
from streams.engine.assignor import TablesAssignor
from streams.engine.in_flight import Pending
from streams.engine.publisher import Publisher
from streams.exceptions import EventError, MessageError, StartupError, StateError
from streams.kafka.partitioning import partition_of
from streams.kafka.records import Outgoing, Record, sent_at, value_of
from streams.kafka.remarks import Circuit
from streams.logs.place import about
from streams.logs.repeats import summed
from streams.messages import EmbeddedInteraction, encode_embedded, parse_embedded
from streams.profile.bag import Bag
from streams.profile.batch import Outcome, Profile, outcome_of
from streams.profile.databases import RocksDBMemory
from streams.profile.left import delete_left
from streams.profile.rows import keys_of
from streams.profile.scoring import Recommender, ScoringOptions
from streams.profile.standby import Standby
from streams.profile.table import BagTable
from streams.profile.trend_state import TrendState
from streams.runtime.freeze_guard import FreezeGuard
from streams.settings import Settings
from streams.tracing import EventSpan, Tracing

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """A micro-batch, decoded: its events with the profiles that they change, and the dead letters."""

    records: list[Pending]
    events: list[tuple[EmbeddedInteraction, Profile]] = field(default_factory=list[tuple[EmbeddedInteraction, Profile]])
    profiles: dict[int, dict[str, Profile]] = field(default_factory=dict[int, dict[str, Profile]])  # by partition, user
    letters: list[DeadLetter] = field(default_factory=list[DeadLetter])
    moved: dict[int, list[Outgoing]] = field(
        default_factory=dict[int, list[Outgoing]]
    )  # by the partition that they go to
    caused: int = 0  # recommendations
    spans: dict[int, EventSpan] = field(default_factory=dict[int, EventSpan])  # by the place of the recommendation
    sent: list[int] = field(default_factory=list[int])  # when the events of its recommendations were sent, milliseconds
    started: float = field(default_factory=monotonic)  # seconds


def _tell(record: Record, error: EventError) -> None:
    """Log that a record becomes a dead letter."""
    with about(record):
        logger.warning("dead letter: %s", error, extra=summed("dead letters", error.reason))


class ProfileWorker:
    """Keeps the bags of its assigned partitions, and publishes a recommendation for each event."""

    name = "profile"
    gc_allocations = 20_000  # Python's default of 700 is a batch of ten events, and takes a quarter of the time

    def __init__(self, settings: Settings, bundles: Bundles, folder: Path, partitions: int) -> None:
        """Make a worker whose bags are spread over `partitions` partitions."""
        self._settings = settings
        self._row_bytes = bundles.row_bytes
        self.app = new_app(
            settings.profile_group,
            settings,
            folder / "faust",
            max_in_flight=2 * settings.profile_batch,
            finish_before_revocation=True,
        )
        self.app.read(settings.embedded_topic, self.agent, name=self.name, limit=settings.profile_batch)
        self.app.partitions = self._partitions = partitions
        self.app.topics_generation = settings.generation
        self._publisher = Publisher(self.app)
        memory = RocksDBMemory(settings.rocksdb_memory)
        self.table = BagTable(
            self.app,
            partitions=partitions,
            folder=folder / settings.bags_folder,
            memory=memory,
            publisher=self._publisher,
            row_bytes=self._row_bytes,
            kafka=settings.aiokafka(),
            recent_slots=settings.recent_items,
            recent_bytes=settings.recent_memory,
        )
        self.app.tables.add(self.table)
        if settings.standby:
            self.table.standby = standby = Standby(
                settings, folder / settings.bags_folder, memory, self._row_bytes, caught_up=self._join_again
            )
            self.app.warm = lambda: standby.warm
            self.app.task(standby.run)
        self.app.task(self._delete_left)
        self._folder, self._memory = folder, memory
        self._next_bags: tuple[int, asyncio.Task[None] | None] = 0, None  # see `follow_target`
        self._joining: asyncio.Task[None] | None = None  # see `_join_again`
        self.trend = TrendState(settings, self.table.data, self._publisher, partitions, bundles.served)
        self.table.watcher = self.trend
        self._recommender = self._new_recommender(bundles.served)
        self._next_recommender = self._new_recommender(bundles.next) if bundles.next else None
        self._next_failure = ""  # the last one that was logged
        self._delivery: asyncio.Task[None] | None = None  # of the batch before
        self.tracing: Tracing | None = None  # the runner sets it before the start
        self._unwritten: dict[tuple[int, str], Bag] = {}  # bags of that batch, by partition and user; not on disk yet
        self._queue, self._fold, self._score, self._delivering = (
            metrics.stage_seconds.labels(self.name, stage) for stage in ("queue", "fold", "score", "delivery")
        )
        self._whole = metrics.recommendation_seconds.labels()
        self._guard = FreezeGuard(settings.session_timeout)
        self.app.before_send = self._guard.check
        self.app.task(self._guard.keep)

    async def _delete_left(self) -> None:
        await delete_left(self._folder / self._settings.bags_folder, lambda: self.open_partitions)

    @property
    def open_partitions(self) -> frozenset[int]:
        """The partitions whose bags are open: those that this worker has, and those that it keeps a copy of."""
        standby = self.table.standby
        return self.table.data.partitions | (standby.held if standby else frozenset())

    def _join_again(self) -> None:
        """Ask for a share of the partitions, if this worker has none because it had no bags."""
        if cast(TablesAssignor, self.app.assignor).held_back:
            logger.info("joining the group again for a share of the partitions")
            self._joining = asyncio.create_task(self.app.consumer.reopen())

    async def follow_target(self, generation: int, partitions: int) -> None:
        """Keep a copy of all bags of a generation to which they are being moved, so that this worker starts on it at once.

        Without STANDBY the worker reads them from the changelog when it starts on it.

        Args:
            generation: 0 for none.
            partitions: number of its partitions.
        """
        followed, task = self._next_bags
        if generation == followed or not self._settings.standby:
            return
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._next_bags = generation, None
        if generation:
            settings = self._settings.of_generation(generation)
            folder = self._folder / settings.bags_folder
            standby = Standby(settings, folder, self._memory, self._row_bytes, caught_up=lambda: None)
            await standby.follow(range(partitions))
            self._next_bags = generation, asyncio.create_task(self._followed(standby))

    async def _followed(self, standby: Standby) -> None:
        """Run a standby. Its failure costs only time later."""
        try:
            await standby.run()
        except (StartupError, StateError) as error:
            logger.warning("the bags of the next internal topics are not kept up to date: %s", error)

    def _new_recommender(self, bundle: Bundle) -> Recommender:
        settings = self._settings
        return Recommender(bundle, bundle.aggregator(settings.model_threads), ScoringOptions.of(settings))

    def circuits(self) -> tuple[Circuit, ...]:
        """None: it asks nobody for pictures."""
        return ()

    async def swap(self, bundles: Bundles) -> None:
        """Score by other bundles of the same embedders, from the next batch on. Raises TastestreamError if one does not work."""
        served, following = self._recommender, self._next_recommender
        if bundles.served is not served.bundle:
            served = await asyncio.to_thread(self._tried_recommender, bundles.served)
        if bundles.next is not None and (following is None or bundles.next is not following.bundle):
            following = await asyncio.to_thread(self._tried_recommender, bundles.next)
        if served is not self._recommender:
            self.trend.use(bundles.served, await asyncio.to_thread(bundles.served.item_labels))
        self._recommender, self._next_recommender = served, following

    def _tried_recommender(self, bundle: Bundle) -> Recommender:
        recommender = self._new_recommender(bundle)
        recommender.try_out()
        return recommender

    async def agent(self, batches: Batches) -> None:
        """The Faust agent: prepare each batch while the one before is being delivered. A failed delivery crashes the app."""
        async with self.trend.running(), asyncio.TaskGroup() as deliveries:
            async for batch in batches:
                await self._process(batch, deliveries)

    async def _process(self, records: list[Pending], deliveries: asyncio.TaskGroup) -> None:
        """Prepare a batch, wait until the batch before is delivered, then start delivering this one."""
        batch = self._decoded(records)
        for pending in records:
            self._queue.observe(batch.started - pending.arrived)
        try:
            outcome = await asyncio.get_running_loop().run_in_executor(None, self._outcome, batch)
        except Exception as error:  # a defect of ours must neither lose an event nor block its partition
            if len(records) > 1:
                logger.warning(
                    "a batch of %d events failed; its events are retried one by one: %r", len(records), error
                )
                for pending in records:
                    await self._process([pending], deliveries)
                return
            record = records[0].record
            if isinstance(error, EventError):
                _tell(record, error)
                problem = error
            else:
                with about(record):
                    logger.exception("dead letter: an unexpected error", extra=summed("dead letters", "internal_error"))
                problem = EventError("internal_error", repr(error))
            letter = self._letter(record, problem)
            batch, outcome = _Batch(records, letters=[letter]), Outcome()
        for place, span in batch.spans.items():
            key, value, headers = outcome.recommendations[place]
            outcome.recommendations[place] = key, value, [*headers, *span.headers]
        if outcome.next_failure is not None:
            self._report(outcome.next_failure)
        await self.delivered()
        self._guard.check()
        if any(pending.forgotten for pending in records):
            return  # a rebalance came in between: nothing of this batch was sent, and it is delivered again
        self._unwritten = {
            (partition, user_id): profile.after
            for partition, users in batch.profiles.items()
            for user_id, profile in users.items()
        }
        self._delivery = deliveries.create_task(self._finish(batch, outcome))

    async def delivered(self) -> None:
        """Wait until no batch is being delivered. Raises what the delivery raised."""
        if self._delivery is not None:
            await self._delivery

    async def _finish(self, batch: _Batch, outcome: Outcome) -> None:
        """Deliver a batch, then acknowledge its events."""
        started = monotonic()
        await self._deliver(outcome, batch)
        self._delivering.observe(monotonic() - started)
        self._unwritten = {}
        for pending in batch.records:
            pending.finish()
        events = [event for event, _ in batch.events if not event.prepared] if batch.spans else []
        for place, span in batch.spans.items():
            span.end(events[place].event_id)
        self._count(batch, outcome)

    def _count(self, batch: _Batch, outcome: Outcome) -> None:
        """Count a batch that was delivered."""
        metrics.events.labels(self.name).inc(len(batch.records))
        metrics.batch_seconds.labels(self.name).observe(monotonic() - batch.started)
        metrics.cold_starts.inc(outcome.cold_starts)
        metrics.unscored_items.inc(outcome.unscored)
        self._fold.observe(outcome.fold_seconds)
        self._score.observe(outcome.score_seconds)
        now = time() * 1000
        for sent in batch.sent:
            self._whole.observe(max(now - sent, 0.0) / 1000)

    def _decoded(self, records: list[Pending]) -> _Batch:
        """Decode the events of a batch, and load the profiles that they change."""
        batch = _Batch(records)
        for pending in records:
            record = pending.record
            try:
                pending.check()
                interaction = self._parse(value_of(record))
            except EventError as error:
                _tell(record, error)
                batch.letters.append(self._letter(record, error))
                continue
            if record.partition >= self._partitions:  # an earlier version sent over all partitions of the topic
                key = interaction.user_id.encode()
                moved = batch.moved.setdefault(partition_of(key, self._partitions), [])
                moved.append((key, encode_embedded(interaction), ()))
                continue
            users = batch.profiles.setdefault(record.partition, {})
            profile = users.get(interaction.user_id)
            if profile is None:
                profile = users[interaction.user_id] = self._load(record.partition, interaction.user_id)
            batch.events.append((interaction, profile))
            if not interaction.prepared:
                if (sent := sent_at(record)) is not None:
                    batch.sent.append(sent)
                if self.tracing and (span := self.tracing.begin(record, self.name)):
                    batch.spans[batch.caused] = span
                batch.caused += 1
        return batch

    def _letter(self, record: Record, error: EventError) -> DeadLetter:
        metrics.dead_letters.labels(self.name, error.reason).inc()
        if self.tracing and (span := self.tracing.begin(record, self.name)):
            span.end(problem=error.reason)
        return dead_letter(record, error, worker=self.name, at=datetime.now(UTC))

    def _parse(self, value: bytes | None) -> EmbeddedInteraction:
        """Decode an embedded interaction. Raises MessageError, also for an embedding that does not fit the bundle."""
        interaction = parse_embedded(value)
        for code in interaction.codes:
            found = len(code.embedding)
            expected = self._row_bytes.get(code.embedder_version, found)
            if found != expected:
                raise MessageError(
                    "invalid_field",
                    f"embedding has {found} bytes; embedder {code.embedder_version} makes {expected}",
                    field="embedding",
                )
            if not is_finite(code.embedding):
                raise MessageError(
                    "invalid_field", "embedding has a range that is not finite, or too large", field="embedding"
                )
        return interaction

    def _load(self, partition: int, user_id: str) -> Profile:
        bag = self._unwritten.get((partition, user_id))
        if bag is not None:
            return Profile(keys_of(user_id, bag), bag, bag)
        stored, bag = self.table.bag(partition, user_id)
        return Profile(stored, bag, bag)

    def _outcome(self, batch: _Batch) -> Outcome:
        recommender = self._recommender
        return outcome_of(
            batch.events,
            batch.profiles,
            recommender,
            self._next_recommender,
            max_slots=self._settings.max_slots,
            kept=self._row_bytes,
            now=datetime.now(UTC),
            trend=self.trend.of(recommender.bundle),
        )

    def _report(self, failure: Exception) -> None:
        """Count a batch that the next bundle could not score, and log it unless it failed in the same way before."""
        metrics.next_bundle_failures.inc()
        what = str(failure) or repr(failure)
        if what != self._next_failure:
            self._next_failure = what
            logger.error(
                "NEXT_BUNDLE cannot score a batch of events, and recommends nothing for them; BUNDLE goes on: %s", what
            )

    async def _deliver(self, outcome: Outcome, batch: _Batch) -> None:
        """Send everything and wait for the broker; the table writes its rows to disk once the changelog has them."""
        writes = [self.table.write(partition, *write) for partition, write in outcome.writes.items()]
        send, settings = self._publisher.send_all, self._settings
        await asyncio.gather(
            *writes,
            send(settings.recommendations_topic, outcome.recommendations),
            send(settings.next_recommendations_topic, outcome.next_recommendations),
            send(settings.dlq_topic, batch.letters),
            *(send(settings.embedded_topic, moved, partition=to) for to, moved in batch.moved.items()),
        )
