"""Sends the events of dead letters again, to the topics that they came from, at a given rate.

The topic is read twice. The first reading finds the notes on what was sent before (`notes.py`), because those come after the
letters; the second one sends. Not for: which letters (`letter_filter.py`, `verdict.py`).

A run that is killed between an event and its note leaves a letter of which nobody knows whether it was sent. The next run sends
it once more, and says so.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aiokafka.errors import KafkaError
from msgspec.structs import replace

from streams.dead_letter import Letter, Origin
from streams.dead_letters.letter_filter import LetterFilter
from streams.dead_letters.notes import History, Note, identity, note_headers, note_value
from streams.dead_letters.reading import DeadLetterReader
from streams.dead_letters.verdict import Redrive, Skip, verdict
from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.generations import read_layout
from streams.kafka.producing import make_producer, sending_failed, start_producer, stop_producer
from streams.settings import Settings

IN_FLIGHT = 100  # events sent and not yet acknowledged, at most; each is below a megabyte
FLUSH_TIMEOUT = 5.0  # seconds to wait for the events in flight when the command is interrupted


@dataclass
class Plan:
    """What the first reading finds out for the second."""

    letters: int = 0  # on the topic
    selected: int = 0  # of these
    history: History = field(default_factory=History)
    chosen: set[tuple[int, int]] | None = None  # partition and offset of the letters within the limit; None: no limit


async def make_plan(topic: DeadLetterReader, letter_filter: LetterFilter, seen: Callable[[], object]) -> Plan:
    """Read the whole topic, and call `seen` for each letter."""
    plan = Plan()
    newest: deque[tuple[int, int]] = deque(maxlen=letter_filter.limit or 0)
    async for letter in topic.letters(plan.history.add):
        seen()
        plan.letters += 1
        if letter_filter.matches(letter):
            plan.selected += 1
            newest.append((letter.partition, letter.offset))
    if letter_filter.limit is not None:
        plan.selected, plan.chosen = len(newest), set(newest)
    return plan


async def verdicts(
    settings: Settings, topic: DeadLetterReader, letter_filter: LetterFilter, plan: Plan, *, max_attempts: int
) -> AsyncGenerator[tuple[Letter, Redrive | Skip]]:
    """Yield the selected letters, each with where to send its event, or why not.

    Raises:
        TopicsError: A letter came from a topic that no longer exists.
    """
    layout = await read_layout(settings)
    embedded = settings.of_generation(layout.events).embedded_topic
    inputs = {settings.interactions_topic: settings.interactions_topic} | {
        settings.of_generation(number).embedded_topic: embedded for number in range(1, layout.last + 1)
    }
    async for letter in topic.letters():
        if not letter_filter.matches(letter):
            continue
        if plan.chosen is not None and (letter.partition, letter.offset) not in plan.chosen:
            continue
        judged = verdict(letter, inputs=inputs, history=plan.history, max_attempts=max_attempts)
        if isinstance(judged, Redrive) and judged.topic not in topic.topics:
            raise TopicsError(
                f"there is no topic {judged.topic} at {settings.broker}, where dead letters came from; "
                "`tastestream topics` creates it"
            )
        yield letter, judged


class Sender:
    """Sends the events of letters, at most `rate` a second, and notes each. An asynchronous context manager.

    It counts the events that the broker has in `sent`, by topic and reason. At its end every event is acknowledged and noted,
    also if it ends by an exception (DeliveryError, BrokerUnreachable, a cancellation) and the broker still answers.
    """

    def __init__(self, settings: Settings, rate: float, sent: Counter[tuple[str, str]]) -> None:
        self._sent = sent
        self._settings = settings
        self._pause = 1 / rate
        self._next = 0.0  # when the next event may be sent, on the monotonic clock
        self._in_flight: deque[asyncio.Task[None]] = deque()
        self._producer = make_producer(settings)

    async def __aenter__(self) -> "Sender":
        await start_producer(self._producer, self._settings)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                while self._in_flight:
                    await self._settle()
        finally:
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=FLUSH_TIMEOUT)
                for delivery in self._in_flight:
                    delivery.cancel()
                await asyncio.gather(*self._in_flight, return_exceptions=True)
            await stop_producer(self._producer)

    async def send(self, letter: Letter, redrive: Redrive) -> None:
        """Wait until the rate permits it, and start to send the letter's original.

        The key chooses the partition, over all partitions of the topic. A profile worker moves an event from a partition
        without bags to that of its user.
        """
        delay = self._next - monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        self._next = max(self._next, monotonic()) + self._pause
        self._in_flight.append(asyncio.create_task(self._deliver(letter, redrive)))
        while self._in_flight and (len(self._in_flight) >= IN_FLIGHT or self._in_flight[0].done()):
            await self._settle()

    async def _deliver(self, letter: Letter, redrive: Redrive) -> None:
        """Note that an event is about to be sent, send it, and note where it is."""
        note = Note(letter.partition, letter.offset, identity(letter), redrive.attempt)
        await self._note(note)
        headers: Any = list(letter.headers)  # Kafka permits null as a header's value, aiokafka's types do not
        # aiokafka rejects a record with neither key nor value
        value = b"" if letter.key is None and letter.value is None else letter.value
        written = await (await self._producer.send(redrive.topic, value, letter.key, headers=headers))
        self._sent[redrive.topic, letter.reason] += 1
        await self._note(replace(note, to=Origin(redrive.topic, written.partition, written.offset)))

    async def _note(self, note: Note) -> None:
        """Write a note behind its letter, in the same partition."""
        topic, headers = self._settings.dlq_topic, note_headers()
        await self._producer.send_and_wait(topic, note_value(note), partition=note.partition, headers=headers)

    async def _settle(self) -> None:
        """Wait until the oldest event in flight is acknowledged and noted."""
        delivery = self._in_flight[0]
        # Unlike `wait_for`, `wait` does not cancel the task when the time is over.
        await asyncio.wait([delivery], timeout=self._settings.broker_timeout)
        if not delivery.done():
            raise BrokerUnreachable(
                f"the broker at {self._settings.broker} did not take an event within {self._settings.broker_timeout:g} s "
                "(TASTESTREAM_BROKER_TIMEOUT)"
            )
        self._in_flight.popleft()
        try:
            delivery.result()
        except KafkaError as error:
            raise sending_failed(self._settings, error, "an event") from error
