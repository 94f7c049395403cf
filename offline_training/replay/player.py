"""Produces the events, and waits for what comes out of them.

Two events of one user are never on their way together: the second is produced when the first has its answer. So the recommendation
that an event causes knows nothing of later ones, whatever order the workers take, and what it says is a function of the stream.
Events of other users go on meanwhile; at most `lead` are produced or held back at a time, which is the back-pressure.

An answer is in the journal before it lets the user's next event go.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from time import monotonic, time
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from model.bundle import Bundle
from offline_training.replay.answers import Answer, Answers, Journal, answer
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.messages import Naming, encode
from offline_training.replay.pacing import Pace
from offline_training.replay.serving import Address
from offline_training.replay.source import Event, PlayedItem
from streams.dead_letter import parse_letter, subject
from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.kafka.topics import ensure_topics
from streams.messages import EVENT_ID_HEADER, Model, Recommendation
from streams.settings import Settings

logger = logging.getLogger(__name__)

POLL = 200  # milliseconds of one look for answers, where there are none
PATIENCE = 180.0  # seconds without any answer: a rebalance takes six, a broker that is away for a moment thirty
HINT = 15.0  # seconds without any answer after which the log says so
STOP_TIMEOUT = 5.0  # seconds for what is on its way when the replay is stopped

_decode = msgspec.json.Decoder(Recommendation).decode


class _Sent(NamedTuple):
    event: Event
    at: float  # on the monotonic clock


class Player:
    """Plays events through Kafka. An asynchronous context manager.

    Raises BrokerUnreachable, TopicsError, DeliveryError, or ReplayError when nothing comes back.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle,
        naming: Naming,
        answers: Answers,
        journal: Journal,
        *,
        lead: int,
        pace: Pace,
        patience: float = PATIENCE,
    ) -> None:
        """lead: events that have no answer yet, at most."""
        self._settings = settings
        self._model = Model(bundle.name, bundle.version)
        self._numbers = {category: number for number, category in enumerate(bundle.categories)}
        self._naming = naming
        self._answers = answers
        self._journal = journal
        self._lead = lead
        self._pace = pace
        self._patience = patience
        self._on_the_way: dict[int, _Sent] = {}  # by number
        self._held: dict[str, deque[tuple[Event, str]]] = {}  # by users who have an event on its way
        self._ready: asyncio.Queue[tuple[Event, str]] = asyncio.Queue()
        self._unanswered = 0
        self._deliveries: set[asyncio.Future[Any]] = set()
        self._failure: KafkaError | None = None
        self._changed = asyncio.Event()
        self._last_answer = monotonic()
        self.event_time = 0
        self.played = 0
        """Events of this run that have their answer."""
        self.produced = 0
        # A broker that is away is waited for: by default a record is given up after 40 s.
        self._producer = AIOKafkaProducer(
            **settings.aiokafka(),
            acks="all",
            enable_idempotence=settings.idempotence,
            linger_ms=1,
            request_timeout_ms=int(1000 * max(settings.broker_timeout, 60.0)),
        )
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(), enable_auto_commit=False, auto_offset_reset="latest", max_poll_records=2000
        )

    @property
    def lead(self) -> int:
        """Events that are produced or held back, and have no answer yet."""
        return self._unanswered

    async def __aenter__(self) -> Self:
        """Create topics that are missing, and stand at the end of the output, before anything is produced."""
        settings = self._settings
        try:
            states = await ensure_topics(settings)
            await self._producer.start()
            await self._consumer.start()
            partitions = [
                TopicPartition(topic, number)
                for topic in (settings.recommendations_topic, settings.dlq_topic)
                for number in range(states[topic][0].partitions)
            ]
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
        self, events: Iterator[Event], items: dict[str, PlayedItem], address: Address, stop: asyncio.Event
    ) -> bool:
        """All events that have no answer yet; whether it came to the end, which it does not when `stop` is set."""
        self._last_answer = monotonic()
        work = [
            asyncio.create_task(self._feed(events, items, address)),
            asyncio.create_task(self._send()),
            asyncio.create_task(self._watch()),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({*work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()  # raises what ended it
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

    async def _feed(self, events: Iterator[Event], items: dict[str, PlayedItem], address: Address) -> None:
        for event in events:
            if self._answers.given[event.place]:
                continue
            if (pause := self._pace.wait(event.time, monotonic())) > 0:
                await asyncio.sleep(pause)
            while self._unanswered >= self._lead:
                await self._answered()
            self.event_time = event.time
            self._unanswered += 1
            pair = event, address(items[event.item])
            if event.user in self._held:
                self._held[event.user].append(pair)
            else:
                self._held[event.user] = deque()
                self._ready.put_nowait(pair)
        while self._unanswered:
            await self._answered()

    async def _answered(self) -> None:
        """Wait until something has come back. Raises ReplayError when nothing does."""
        self._changed.clear()
        hinted = False
        while not self._changed.is_set():
            self._raise_failure()
            silent = monotonic() - self._last_answer
            if silent > self._patience:
                raise ReplayError(
                    f"nothing came back for {silent:.0f} s, and {self._unanswered:,} events wait: are both workers running "
                    f"on {self._settings.broker}?"
                )
            if silent > HINT and not hinted:
                hinted = True
                logger.warning(
                    "nothing came back for %.0f s; is the broker there, and are both workers running?", silent
                )
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except TimeoutError:
                continue

    async def _send(self) -> None:
        while True:
            event, url = await self._ready.get()
            value = encode(self._naming.interaction(event, url))
            key = self._naming.user(event.user).encode()
            self._on_the_way[event.number] = _Sent(event, monotonic())
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
                one
                for partition, records in batches.items()
                for record in records
                if (one := self._answer(partition.topic, record, now, clock)) is not None
            ]
            for _, one in found:
                self._journal.write(one)
            self._journal.flush()
            for user, one in found:
                self._let_go(user, one)
            if batches:
                self._last_answer = now
            if found:
                self._changed.set()

    def _answer(self, topic: str, record: Any, now: float, clock: float) -> tuple[str, Answer] | None:
        """A user, and the first answer to the event of theirs that is on its way; None for every other record.

        now: seconds on the monotonic clock. clock: seconds since the epoch.
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
                return None  # somebody else's
            event_id = message.event_id
        number = self._naming.number(event_id)
        sent = None if number is None else self._on_the_way.pop(number, None)
        if sent is None:
            return None
        event = sent.event
        if message is None:
            return event.user, Answer(event.place, reason=reason)
        if message.model != self._model:
            raise ReplayError(
                f"the workers serve {message.model.name} {message.model.version}, and the bundle here is {self._model.name} "
                f"{self._model.version}: set TASTESTREAM_BUNDLE to the one that they serve"
            )
        latency = round(1000 * (now - sent.at), 3)
        return event.user, answer(event.place, message, self._numbers, latency, round(1000 * clock))

    def _let_go(self, user: str, one: Answer) -> None:
        """Count an answer, and produce the next event of its user."""
        self._answers.add(one)
        self.played += 1
        self._unanswered -= 1
        held = self._held.get(user)
        if held:
            self._ready.put_nowait(held.popleft())
        else:
            self._held.pop(user, None)

    async def _drained(self) -> None:
        """What is on its way gets a moment to arrive: an answer that is in the journal need not be asked for again."""
        end = monotonic() + STOP_TIMEOUT
        while self._on_the_way and monotonic() < end:
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
                logger.warning("the broker does not answer; what was on its way is left behind")

    def _of_kafka(self, error: KafkaError) -> BrokerUnreachable | DeliveryError:
        if isinstance(error, KafkaConnectionError):
            return BrokerUnreachable(f"the broker at {self._settings.broker} went away: {error}")
        return DeliveryError(f"the broker at {self._settings.broker} did not take an event: {error!r}")
