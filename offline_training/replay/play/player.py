"""Sends events to Kafka and collects the answers.

At most one event of a user is in flight: the next one is sent when the answer to the last one has come. So a recommendation
depends on earlier events of its user only, in whatever order the workers process events. Events of other users are sent
meanwhile. At most `lead` events are unanswered at a time, which is the back-pressure.

Answers are kept, on disk, before the next events of their users are sent.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, time
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from model.bundle import Bundle
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer, category_numbers, event_answer
from offline_training.replay.play.events import PlayedEvent, PlayedItem
from offline_training.replay.play.messages import Naming, encode
from offline_training.replay.play.others import refuse_others
from offline_training.replay.play.pacing import Pace
from offline_training.replay.play.picture_server import PictureUrl
from streams.dead_letter import parse_letter, subject
from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.kafka.offsets import ISOLATION
from streams.kafka.producing import make_producer
from streams.kafka.topics import ensure_topics
from streams.messages import EVENT_ID_HEADER, Model, Recommendation
from streams.settings import Settings

logger = logging.getLogger(__name__)

POLL = 200  # milliseconds that a poll waits for answers
PATIENCE = 180.0  # seconds without any answer before giving up: a rebalance takes 6 s, a restart of the broker 30 s
HINT = 15.0  # seconds without any answer before a warning
STOP_TIMEOUT = 5.0  # seconds to wait for events in flight when the replay is stopped

Keep = Callable[[Sequence[EventAnswer]], None]
"""Keeps answers. The next events of their users are sent after it returns."""

_decode = msgspec.json.Decoder(Recommendation).decode


class _Sent(NamedTuple):
    event: PlayedEvent
    at: float  # seconds on the monotonic clock


class Player:
    """Plays events through Kafka. An asynchronous context manager.

    Its methods raise BrokerUnreachable, TopicsError or DeliveryError when Kafka fails, and ReplayError when no answers come.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        naming: Naming,
        keep: Keep,
        *,
        lead: int,
        pace: Pace,
        live_topics: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """Set up the Kafka clients, without connecting.

        Args:
            settings: name the broker and the topics.
            bundle: the bundle that the workers serve.
            naming: the ids of events and users.
            keep: receives the answers.
            lead: maximum number of unanswered events.
            pace: when an event may be sent.
            live_topics: whether to play to an input topic that has events of others.
            patience: seconds without any answer before giving up.
        """
        self._settings = settings
        self._model = Model(bundle.name, bundle.version)
        self._numbers = category_numbers(bundle.categories)
        self._naming = naming
        self._keep = keep
        self._lead = lead
        self._pace = pace
        self._live_topics = live_topics
        self._patience = patience
        self._in_flight: dict[int, _Sent] = {}  # by number
        self._held: dict[str, deque[tuple[PlayedEvent, str]]] = {}  # by users with an event in flight
        self._ready: asyncio.Queue[tuple[PlayedEvent, str]] = asyncio.Queue()
        self._unanswered = 0
        self._deliveries: set[asyncio.Future[Any]] = set()
        self._failure: KafkaError | None = None
        self._changed = asyncio.Event()
        self._last_answer = monotonic()
        self.event_time = 0
        self.played = 0
        """Events that this player sent and that have an answer."""
        self.produced = 0
        # Wait for a broker that is down: by default aiokafka gives up a record after 40 s.
        self._producer = make_producer(
            settings, linger_ms=1, request_timeout_ms=int(1000 * max(settings.broker_timeout, 60.0))
        )
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            isolation_level=ISOLATION,
            max_poll_records=2000,
        )

    @property
    def lead(self) -> int:
        """Number of unanswered events, in flight or held back."""
        return self._unanswered

    async def __aenter__(self) -> Self:
        """Create missing topics, look for events of others, and seek to the end of the output topics, before any event is sent."""
        settings = self._settings
        try:
            states = await ensure_topics(settings)
            await self._producer.start()
            await self._consumer.start()

            def partitions_of(*topics: str) -> list[TopicPartition]:
                return [
                    TopicPartition(topic, number) for topic in topics for number in range(states[topic][0].partitions)
                ]

            if not self._live_topics:
                await refuse_others(self._consumer, partitions_of(settings.interactions_topic), settings)
            partitions = partitions_of(settings.recommendations_topic, settings.dlq_topic)
            self._consumer.assign(partitions)
            for partition, end in (await self._consumer.end_offsets(partitions)).items():
                self._consumer.seek(partition, end)
        except KafkaError as error:
            await self._close()
            raise self._of_kafka(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._close()

    async def play(
        self, events: Iterator[PlayedEvent], items: dict[str, PlayedItem], url_of: PictureUrl, stop: asyncio.Event
    ) -> bool:
        """Play events until they are all answered, or `stop` is set.

        Args:
            events: the events, in time order.
            items: the items of the data set, by id.
            url_of: gives the URL of a picture.
            stop: ends the replay.

        Returns:
            Whether all events are answered.
        """
        self._last_answer = monotonic()
        work = [
            asyncio.create_task(self._feed(events, items, url_of)),
            asyncio.create_task(self._send()),
            asyncio.create_task(self._watch()),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({*work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()  # raises the error that ended it
            if stopped.done() and not work[0].done():
                work[0].cancel()
                self._held.clear()
                await self._drained()
                return False
            return True
        finally:
            for task in (*work, stopped):
                task.cancel()
            await asyncio.wait({*work, stopped})

    async def _feed(self, events: Iterator[PlayedEvent], items: dict[str, PlayedItem], url_of: PictureUrl) -> None:
        for event in events:
            if (pause := self._pace.wait(event.time, monotonic())) > 0:
                await asyncio.sleep(pause)
            while self._unanswered >= self._lead:
                await self._answered()
            self.event_time = event.time
            self._unanswered += 1
            pair = event, url_of(items[event.item])
            if event.user in self._held:
                self._held[event.user].append(pair)
            else:
                self._held[event.user] = deque()
                self._ready.put_nowait(pair)
        while self._unanswered:
            await self._answered()

    async def _answered(self) -> None:
        """Wait for the next answer. Raises ReplayError when none comes."""
        self._changed.clear()
        hinted = False
        while not self._changed.is_set():
            self._raise_failure()
            silent = monotonic() - self._last_answer
            if silent > self._patience:
                raise ReplayError(
                    f"no answer for {silent:.0f} s, and {self._unanswered:,} events are unanswered: are both workers running "
                    f"on {self._settings.broker}?"
                )
            if silent > HINT and not hinted:
                hinted = True
                logger.warning("no answer for %.0f s: is the broker up, and are both workers running?", silent)
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except TimeoutError:
                continue

    async def _send(self) -> None:
        while True:
            event, url = await self._ready.get()
            value = encode(self._naming.interaction(event, url))
            key = self._naming.user(event.user).encode()
            self._in_flight[event.number] = _Sent(event, monotonic())
            try:
                delivery = await self._producer.send(self._settings.interactions_topic, value, key)
            except KafkaError as error:
                raise self._of_kafka(error) from error
            self.produced += 1
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: asyncio.Future[Any]) -> None:
        self._deliveries.discard(delivery)
        if not delivery.cancelled() and isinstance(error := delivery.exception(), KafkaError):
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._of_kafka(self._failure) from self._failure

    async def _watch(self) -> None:
        while True:
            self._raise_failure()
            try:
                batches = await self._consumer.getmany(timeout_ms=POLL)
            except KafkaError as error:
                raise self._of_kafka(error) from error
            now, clock = monotonic(), time()
            found = [
                answered
                for partition, records in batches.items()
                for record in records
                if (answered := self._answer(partition.topic, record, now, clock)) is not None
            ]
            if batches:
                self._last_answer = now
            if found:
                self._keep([answer for _, answer in found])
                for user, _ in found:
                    self._release(user)
                self._changed.set()

    def _answer(self, topic: str, record: Any, now: float, clock: float) -> tuple[str, EventAnswer] | None:
        """Read a record as the first answer to an event in flight.

        Args:
            topic: the topic of the record.
            record: a recommendation, a null value after an erasure, or a dead letter.
            now: seconds on the monotonic clock.
            clock: seconds since the epoch.

        Returns:
            The user and the answer; None for every other record.
        """
        reason = ""
        message: Recommendation | None = None
        if topic == self._settings.dlq_topic:
            letter = parse_letter(
                record.key, record.value, record.headers, partition=record.partition, offset=record.offset, timestamp=0
            )
            event_id, reason = subject(letter).event_id, letter.reason or "dead letter"
        elif record.value is None:
            event_id, reason = dict(record.headers).get(EVENT_ID_HEADER, b"").decode(errors="replace"), "erased"
        else:
            try:
                message = _decode(record.value)
            except msgspec.MsgspecError:
                return None  # not written by the workers
            event_id = message.event_id
        number = self._naming.number(event_id)
        sent = None if number is None else self._in_flight.pop(number, None)
        if sent is None:
            return None
        event = sent.event
        if message is None:
            return event.user, EventAnswer(event.place, reason=reason)
        if message.model != self._model:
            raise ReplayError(
                f"the workers serve {message.model.name} {message.model.version}, and the bundle here is {self._model.name} "
                f"{self._model.version}: set TASTESTREAM_BUNDLE to the bundle that they serve"
            )
        latency = round(1000 * (now - sent.at), 3)
        return event.user, event_answer(event.place, message, self._numbers, latency, round(1000 * clock))

    def _release(self, user: str) -> None:
        """Count an answer, and send the next event of its user."""
        self.played += 1
        self._unanswered -= 1
        held = self._held.get(user)
        if held:
            self._ready.put_nowait(held.popleft())
        else:
            self._held.pop(user, None)

    async def _drained(self) -> None:
        """Wait a moment for the answers to events in flight: those that are kept need not be sent again."""
        end = monotonic() + STOP_TIMEOUT
        while self._in_flight and monotonic() < end:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), end - monotonic())
            except TimeoutError:
                return

    async def _close(self) -> None:
        for client in (self._producer, self._consumer):
            try:
                await asyncio.wait_for(client.stop(), STOP_TIMEOUT)
            except (TimeoutError, KafkaError):
                logger.warning("the broker does not answer; events in flight are abandoned")

    def _of_kafka(self, error: KafkaError) -> BrokerUnreachable | DeliveryError:
        if isinstance(error, KafkaConnectionError):
            return BrokerUnreachable(f"lost the broker at {self._settings.broker}: {error}")
        return DeliveryError(f"the broker at {self._settings.broker} rejected an event: {error!r}")
