"""Sends events to the input topic and waits for their answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from time import monotonic
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.dead_letter import Origin
from streams.kafka.producing import make_producer, sending_failed, start_producer, stop_producer
from streams.kafka.tail import TopicTail
from streams.kafka.topics import partitions_of
from streams.send.answers import Answer, Awaited, Sent
from streams.send.events import Event
from streams.settings import Settings

WAIT = 1.0  # seconds for one answer of the broker


class EventSender:
    """A producer for the input topic, and a reader of the topics with the answers. An asynchronous context manager.

    Opening it raises BrokerUnreachable, DeliveryError, or TopicsError if a topic does not exist or may not be read.
    """

    def __init__(self, settings: Settings, *, wait: bool) -> None:
        """Does not connect yet. `wait`: whether `answers` will be called."""
        self._settings = settings
        self._topic = settings.interactions_topic
        self._awaited = Awaited(settings.recommendations_topic, settings.dlq_topic)
        self._tail = TopicTail(settings, _answer_topics(settings)) if wait else None
        self._producer: AIOKafkaProducer | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        wanted = {self._topic: "TASTESTREAM_INTERACTIONS_TOPIC"}
        async with AsyncExitStack() as stack:
            if self._tail is not None:  # first: what comes from now on may be an answer
                await stack.enter_async_context(self._tail)
            await partitions_of(self._settings, wanted)
            self._producer = make_producer(self._settings)
            await start_producer(self._producer, self._settings)
            stack.push_async_callback(stop_producer, self._producer)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def send(self, events: Sequence[Event]) -> list[Sent]:
        """Send events, and wait until the broker has all of them. Raises BrokerUnreachable or DeliveryError."""
        producer = self._producer
        if producer is None:
            raise RuntimeError("it is not open")
        try:
            futures = [await producer.send(self._topic, one.value, key=one.key) for one in events]
            written = await asyncio.gather(*futures)
        except KafkaError as error:
            raise sending_failed(self._settings, error, "the events") from error
        now = monotonic()
        sent = [
            Sent(event, Origin(one.topic, one.partition, one.offset), now)
            for event, one in zip(events, written, strict=True)
        ]
        if self._tail is not None:
            for one in sent:
                self._awaited.add(one)
        return sent

    async def answers(self, timeout: float) -> AsyncGenerator[tuple[Sent, Answer | None, float]]:
        """Yield each event that was sent with its answer, and the seconds that it took; None for what has no answer in time.

        Args:
            timeout: Seconds without any answer to these events after which the rest is given up.

        Raises:
            BrokerUnreachable: The broker went away.
            TopicsError: The broker refuses.
        """
        if self._tail is None:
            raise RuntimeError("the topics with the answers are not read")
        deadline = monotonic() + timeout
        while self._awaited and (left := deadline - monotonic()) > 0:
            for record in await self._tail.next_records(min(WAIT, left)):
                if (found := self._awaited.take(record)) is not None:
                    deadline = monotonic() + timeout
                    yield *found, monotonic() - found[0].at
        for sent in self._awaited.give_up():
            yield sent, None, monotonic() - sent.at


def _answer_topics(settings: Settings) -> dict[str, str]:
    return {
        settings.recommendations_topic: "TASTESTREAM_RECOMMENDATIONS_TOPIC",
        settings.dlq_topic: "TASTESTREAM_DLQ_TOPIC",
    }
