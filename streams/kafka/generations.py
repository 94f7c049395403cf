"""The generations of the internal topics: which one is in use, and how workers and commands learn of it.

The internal topics are the embedded interactions and the changelog of the bags. Their number of partitions decides where the bag
of a user is, so another number needs other topics: the next generation, with a consumer group of its own. `tastestream topics
resize` moves the bags to it. What is in use stands in the newest record of a topic of one partition. Without the topic it is the
first generation. docs/design/resize.md describes the steps.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced, TopicAuthorizationFailedError
from msgspec import Struct
from msgspec.structs import replace

from streams.exceptions import BrokerUnreachable, TopicsError
from streams.kafka.metadata import connection_broke, topics_now
from streams.kafka.offsets import ISOLATION
from streams.kafka.producing import start_producer, stop_producer
from streams.kafka.reading import read_past_damage
from streams.kafka.topics import until_answered
from streams.settings import Settings

logger = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at the topic
PAUSE = 2.0  # seconds until the next attempt after a failure
READ = 500  # milliseconds for one answer of the broker
KEY = b"layout"


class Layout(Struct, frozen=True):
    """Which generations there are, and what each one is for."""

    serving: int = 1  # the profile workers run on it, and its changelog has the bags
    events: int = 1  # the embed workers send to it
    target: int = 0  # the bags are being moved to it; 0: they are not
    kept: int = 0  # it served before, and is kept for a rollback; 0: none
    last: int = 1  # the highest number that was used
    partitions: dict[int, int] = {}  # of each generation that was created by a resize
    copied: dict[int, int] = {}  # offsets of the serving changelog up to which `target` has the rows, by partition
    # The end of the serving changelog when it began to serve, by partition: `kept` has the rows below.
    marks: dict[int, int] = {}

    @property
    def is_draining(self) -> bool:
        """Whether the serving generation gets no more events."""
        return self.events != self.serving

    @property
    def in_use(self) -> frozenset[int]:
        """The generations whose topics must stay."""
        return frozenset({self.serving, self.target, self.kept} - {0})


FIRST = Layout()


def begun(layout: Layout, partitions: int) -> Layout:
    """The bags are being moved to a new generation with so many partitions."""
    number = layout.last + 1
    return replace(layout, target=number, last=number, copied={}, partitions={**layout.partitions, number: partitions})


def going_back(layout: Layout) -> Layout:
    """The bags are being moved to the generation that served before. It lacks what came since."""
    return replace(layout, target=layout.kept, copied=layout.marks)


def draining(layout: Layout) -> Layout:
    """The embed workers send to the target. The serving generation works off what it has."""
    return replace(layout, events=layout.target)


def filling(layout: Layout) -> Layout:
    """The embed workers send to the serving generation."""
    return replace(layout, events=layout.serving)


def switched(layout: Layout, ends: Mapping[int, int]) -> Layout:
    """The target serves, and the one before it is kept. `ends`: of the target's changelog, by partition."""
    return replace(
        layout,
        serving=layout.target,
        events=layout.target,
        target=0,
        kept=layout.serving,
        copied={},
        marks=dict(ends),
    )


def abandoned(layout: Layout) -> Layout:
    """The bags are not moved."""
    return replace(filling(layout), target=0, copied={})


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Layout)


class LayoutReader:
    """Reads the layout, with one connection. An asynchronous context manager. Raises KafkaError."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet."""
        self._topic = TopicPartition(settings.generations_topic, 0)
        self._id = ""  # of the topic
        self._position = 0
        self._layout = FIRST
        read_past_damage(settings.max_batch_bytes)
        self._consumer = AIOKafkaConsumer(
            **settings.aiokafka(), enable_auto_commit=False, auto_offset_reset="earliest", isolation_level=ISOLATION
        )

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def layout(self) -> Layout:
        """The layout now. Raises TopicsError if a later version wrote it."""
        consumer, tp = self._consumer, self._topic
        described = (await topics_now(consumer._client, [tp.topic])).get(tp.topic)
        if described is None:
            return FIRST
        if described.id != self._id or not consumer.assignment():
            self._id, self._position, self._layout = described.id, 0, FIRST
            consumer.assign([tp])
            consumer.seek(tp, 0)
        end = (await consumer.end_offsets([tp]))[tp]
        while self._position < end:
            for records in (await consumer.getmany(tp, timeout_ms=READ)).values():
                for record in records:
                    if record.key == KEY and record.value is not None:
                        self._layout = decoded(record.value, tp.topic)
            self._position = await consumer.position(tp)
        return self._layout


def decoded(value: bytes, topic: str) -> Layout:
    """The layout in a record of the topic. Raises TopicsError."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TopicsError(f"topic {topic} holds a record that is no layout of generations: {error}") from error


async def read_layout(settings: Settings, *, patient: bool = True) -> Layout:
    """The layout now.

    Args:
        settings: where the broker is.
        patient: whether to wait for a broker that does not answer, for `broker_timeout`.

    Raises:
        BrokerUnreachable: no broker answers.
        TopicsError: the topic may not be read, or holds something else.
    """

    async def read() -> Layout:
        try:
            async with asyncio.timeout(settings.broker_timeout), LayoutReader(settings) as reader:
                return await reader.layout()
        except TopicAuthorizationFailedError as error:
            raise TopicsError(
                f"topic {settings.generations_topic}, which says what internal topics are in use, may not be read; grant "
                "READ on it, whether it exists or not, or change TASTESTREAM_NAMESPACE"
            ) from error
        except KafkaError as error:
            if error.retriable:
                raise
            raise TopicsError(f"topic {settings.generations_topic} could not be read: {error!r}") from error

    if patient:
        return await until_answered(settings, read, (KafkaError, OSError))
    try:
        return await read()
    except (KafkaError, OSError) as error:
        raise BrokerUnreachable(f"no broker at {settings.broker} (TASTESTREAM_BROKER): {error!r}") from error


async def in_use(settings: Settings, *, patient: bool = True) -> Settings:
    """The settings with the names of the generation that serves. Waits and raises as `read_layout` does."""
    return settings.of_generation((await read_layout(settings, patient=patient)).serving)


async def follow_layout(settings: Settings, known: Layout, changed: Callable[[Layout], Awaitable[None]]) -> None:
    """Call `changed` with each layout that differs from the one before, until this is cancelled. Waits out an outage.

    Args:
        settings: where the broker is.
        known: the layout that the caller has.
        changed: what it raises ends this.

    Raises:
        TopicsError: a later version wrote the layout.
    """
    while True:
        try:
            async with LayoutReader(settings) as reader:
                while True:
                    layout = await reader.layout()
                    if layout != known:
                        known = layout
                        await changed(layout)
                    await asyncio.sleep(LOOK)
        except asyncio.CancelledError:
            if not connection_broke():
                raise
        except (KafkaError, OSError) as error:
            logger.debug("topic %s cannot be read now: %r", settings.generations_topic, error)
        await asyncio.sleep(PAUSE)


class LayoutWriter:
    """Writes layouts. An asynchronous context manager. The broker accepts those of the writer that was opened last, and no other's."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet. The topic exists."""
        self._settings = settings
        self._producer = AIOKafkaProducer(**settings.aiokafka(), acks="all", transactional_id=settings.resize_id)

    async def __aenter__(self) -> Self:
        await start_producer(self._producer, self._settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_producer(self._producer)

    async def write(self, layout: Layout) -> Layout:
        """Write a layout, and wait until the broker has it. Returns it.

        Raises:
            TopicsError: another writer was opened since, or the broker refuses.
            BrokerUnreachable: the broker does not answer.
        """
        topic: Any = self._settings.generations_topic
        try:
            async with self._producer.transaction():
                await self._producer.send_and_wait(topic, _encode(layout), key=KEY, partition=0)
        except ProducerFenced as error:
            raise TopicsError(
                "another `tastestream topics resize` was started, and goes on instead of this one"
            ) from error
        except KafkaError as error:
            if error.retriable:
                raise BrokerUnreachable(f"the broker at {self._settings.broker} does not answer: {error!r}") from error
            raise TopicsError(f"topic {topic} could not be written: {error!r}") from error
        return layout
