"""Sends the events of dead letters again, to the topics that they came from, at a given rate.

The topic is read twice. The first reading finds the newest letter of each event, because a letter is not sent if a newer
one exists; the second one sends. Not for: which letters (`letter_filter.py`, `verdict.py`), what is sent
(`streams/dead_letter.py`).
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

from streams.dead_letter import Letter, Origin, redrive_headers
from streams.dead_letters.letter_filter import LetterFilter
from streams.dead_letters.reading import DeadLetterReader
from streams.dead_letters.verdict import Skip, identity, verdict
from streams.exceptions import BrokerUnreachable, DeliveryError, TopicsError
from streams.settings import Settings

IN_FLIGHT = 100  # events sent and not yet acknowledged, at most; each is below a megabyte
FLUSH_TIMEOUT = 5.0  # seconds to wait for the events in flight when the command is interrupted


@dataclass
class Plan:
    """What the first reading finds out for the second."""

    selected: int = 0  # letters
    attempts: dict[bytes, int] = field(default_factory=dict[bytes, int])  # as `verdict` takes it
    chosen: set[tuple[int, int]] | None = None  # partition and offset of the letters within the limit; None: no limit


async def make_plan(topic: DeadLetterReader, letter_filter: LetterFilter, seen: Callable[[], object]) -> Plan:
    """Read the whole topic, and call `seen` for each letter.

    All of it, whatever the filter says: the newer letter of the same event may have another reason, or a later time.
    """
    plan = Plan()
    newest: deque[tuple[int, int]] = deque(maxlen=letter_filter.limit or 0)
    async for letter in topic.letters():
        seen()
        if letter.attempts:
            event = identity(letter)
            plan.attempts[event] = max(letter.attempts, plan.attempts.get(event, 0))
        if letter_filter.matches(letter):
            plan.selected += 1
            newest.append((letter.partition, letter.offset))
    if letter_filter.limit is not None:
        plan.selected, plan.chosen = len(newest), set(newest)
    return plan


async def verdicts(
    settings: Settings, topic: DeadLetterReader, letter_filter: LetterFilter, plan: Plan, *, max_attempts: int
) -> AsyncGenerator[tuple[Letter, Origin | Skip]]:
    """Yield the selected letters, each with where to send its event, or why not.

    Raises:
        TopicsError: A letter came from a topic that no longer exists.
    """
    inputs = {settings.interactions_topic, settings.embedded_topic}
    async for letter in topic.letters():
        if not letter_filter.matches(letter):
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
    """Sends the events of letters, at most `rate` a second. An asynchronous context manager.

    It counts acknowledged events in `sent`, by topic and reason. At its end every event is acknowledged. If it ends by an
    exception (DeliveryError, BrokerUnreachable, a cancellation), `sent` still counts what the broker has.
    """

    def __init__(self, settings: Settings, rate: float, sent: Counter[tuple[str, str]]) -> None:
        self._sent = sent
        self._settings = settings
        self._pause = 1 / rate
        self._next = 0.0  # when the next event may be sent, on the monotonic clock
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
            with suppress(TimeoutError):  # a broker that went away acknowledges nothing more
                await asyncio.wait_for(self._producer.stop(), FLUSH_TIMEOUT)

    async def send(self, letter: Letter, topic: str) -> None:
        """Wait until the rate permits it, and hand the letter's original to the producer.

        The key chooses the partition, as for the embed worker's records, so that a user's events stay together.
        """
        delay = self._next - monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        self._next = max(self._next, monotonic()) + self._pause
        try:
            headers: Any = redrive_headers(letter)  # Kafka permits null as a header's value, aiokafka's types do not
            # aiokafka rejects a record with neither key nor value
            value = b"" if letter.key is None and letter.value is None else letter.value
            future = await self._producer.send(topic, value, letter.key, headers=headers)
        except KafkaError as error:
            raise self._failure(error) from error
        self._in_flight.append(((topic, letter.reason), future))
        while self._in_flight and (len(self._in_flight) >= IN_FLIGHT or self._in_flight[0][1].done()):
            await self._settle()

    async def _settle(self) -> None:
        """Wait until the oldest event in flight is acknowledged."""
        counted, future = self._in_flight[0]
        # Unlike `wait_for`, `wait` does not cancel the future when the time is over.
        await asyncio.wait([future], timeout=self._settings.broker_timeout)
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
