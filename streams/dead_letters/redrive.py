"""Sends the originals of dead letters to where they came from, at a given rate, and knows which of them the broker has.

The topic is read twice: once whole, because what becomes of a letter depends on the newer ones, and once to send.
Not for: which letters (`selection.py`), what is sent (`record.py`).
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.dead_letter import Letter, Origin, replay_headers
from streams.dead_letters.reading import DeadLetterTopic
from streams.dead_letters.selection import LetterFilter, Skip, identity, verdict
from streams.exceptions import BrokerUnreachable, DeliveryError, TopicsError
from streams.settings import Settings

IN_FLIGHT = 100  # events handed to the producer and not yet acknowledged; each is below a megabyte
FLUSH_TIMEOUT = 5.0  # seconds that a replay which ends early waits for what is in flight


@dataclass
class Plan:
    """What the first reading tells the second."""

    selected: int = 0  # letters
    attempts: dict[bytes, int] = field(default_factory=dict[bytes, int])  # as `verdict` takes it
    chosen: set[tuple[int, int]] | None = None  # partition and offset of the letters within the limit; None: no limit


async def make_plan(topic: DeadLetterTopic, selection: LetterFilter, seen: Callable[[], object]) -> Plan:
    """Read the whole topic. `seen` is called for each letter.

    All of it, whatever is selected: the newer letter of a selected one's event may have another reason, or a later time.
    """
    plan = Plan()
    newest: deque[tuple[int, int]] = deque(maxlen=selection.limit or 0)
    async for letter in topic.letters():
        seen()
        if letter.attempts:
            event = identity(letter)
            plan.attempts[event] = max(letter.attempts, plan.attempts.get(event, 0))
        if selection.matches(letter):
            plan.selected += 1
            newest.append((letter.partition, letter.offset))
    if selection.limit is not None:
        plan.selected, plan.chosen = len(newest), set(newest)
    return plan


async def verdicts(
    settings: Settings, topic: DeadLetterTopic, selection: LetterFilter, plan: Plan, *, max_attempts: int
) -> AsyncGenerator[tuple[Letter, Origin | Skip]]:
    """The selected letters, each with where it is to be sent, or why it is not.

    Raises TopicsError when a letter came from a topic that is gone.
    """
    inputs = {settings.interactions_topic, settings.embedded_topic}
    async for letter in topic.letters():
        if not selection.matches(letter):
            continue
        if plan.chosen is not None and (letter.partition, letter.offset) not in plan.chosen:
            continue
        judged = verdict(letter, inputs=inputs, attempts=plan.attempts, max_attempts=max_attempts)
        if isinstance(judged, Origin) and judged.topic not in topic.topics:
            raise TopicsError(
                f"there is no topic {judged.topic} at {settings.broker}, where dead letters came from; "
                "`tastestream topics` creates it"
            )
        yield letter, judged


class Sender:
    """Produces originals, at most `rate` a second. An asynchronous context manager; at its end all that was sent is acknowledged.

    It counts in `sent`, by topic and reason, what all in-sync replicas have: also when it ends by an exception, which is
    DeliveryError, BrokerUnreachable or a cancellation.
    """

    def __init__(self, settings: Settings, rate: float, sent: Counter[tuple[str, str]]) -> None:
        self._sent = sent
        self._settings = settings
        self._pause = 1 / rate
        self._next = 0.0  # the moment of the next event, on the monotonic clock
        self._in_flight: deque[tuple[tuple[str, str], asyncio.Future[Any]]] = deque()
        self._producer = AIOKafkaProducer(**settings.aiokafka(), acks="all", enable_idempotence=settings.idempotence)

    async def __aenter__(self) -> "Sender":
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise self._failure(error) from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                while self._in_flight:
                    await self._settle()
        finally:
            if self._in_flight:
                await asyncio.wait([future for _, future in self._in_flight], timeout=FLUSH_TIMEOUT)
                for counted, future in self._in_flight:
                    if future.done() and not future.cancelled() and future.exception() is None:
                        self._sent[counted] += 1
            with suppress(TimeoutError):  # a broker that is gone takes nothing more
                await asyncio.wait_for(self._producer.stop(), FLUSH_TIMEOUT)

    async def send(self, letter: Letter, topic: str) -> None:
        """Hand the letter's original to the producer, when its turn has come.

        The key decides on the partition, as it does for what the embed worker sends: a user's events stay together.
        """
        delay = self._next - monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        self._next = max(self._next, monotonic()) + self._pause
        try:
            headers: Any = replay_headers(letter)  # a null header is none for aiokafka's types, but is for Kafka
            value = b"" if letter.key is None and letter.value is None else letter.value  # aiokafka sends no nothing
            future = await self._producer.send(topic, value, letter.key, headers=headers)
        except KafkaError as error:
            raise self._failure(error) from error
        self._in_flight.append(((topic, letter.reason), future))
        while self._in_flight and (len(self._in_flight) >= IN_FLIGHT or self._in_flight[0][1].done()):
            await self._settle()

    async def _settle(self) -> None:
        """Wait until the oldest event in flight is acknowledged."""
        counted, future = self._in_flight[0]
        await asyncio.wait(
            [future], timeout=self._settings.broker_timeout
        )  # unlike a cancelled wait_for, leaves it alone
        if not future.done():
            raise BrokerUnreachable(
                f"the broker at {self._settings.broker} did not take an event within {self._settings.broker_timeout:g} s "
                "(TASTESTREAM_BROKER_TIMEOUT)"
            )
        self._in_flight.popleft()
        try:
            future.result()
        except KafkaError as error:
            raise self._failure(error) from error
        self._sent[counted] += 1

    def _failure(self, error: KafkaError) -> BrokerUnreachable | DeliveryError:
        if isinstance(error, KafkaConnectionError):
            return BrokerUnreachable(f"the broker at {self._settings.broker} went away: {error}")
        return DeliveryError(f"the broker at {self._settings.broker} did not take an event: {error!r}")
