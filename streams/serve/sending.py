"""Writes events to the input topic for the API. A broker that is away delays an answer for a bounded time, and nothing else."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.kafka.producing import make_producer, sending_failed, start_producer, stop_producer
from streams.serve.interface import Sent
from streams.settings import Settings

TIMEOUT = 5.0  # seconds until the broker has taken an event
PAUSE = 2.0  # seconds until the next attempt to connect
MAX_SENDING = 64  # requests that wait for the broker at a time
BATCH_BYTES = 512 * 1024  # of records to one partition that wait

logger = logging.getLogger(__name__)


class EventSender:
    """The `Sender` of the serve worker. An asynchronous context manager, which connects when there is a broker."""

    def __init__(self, settings: Settings, *, timeout: float = TIMEOUT) -> None:
        """Does not connect yet."""
        self._settings = settings
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._sending = 0

    async def __aenter__(self) -> "EventSender":
        self._connecting = asyncio.create_task(self._connect())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        if self._producer is not None:
            await stop_producer(self._producer)

    async def send(self, values: Sequence[tuple[str, bytes]]) -> list[Sent]:
        """Write user ids with JSON values, and wait for the broker.

        Events of which an answer says that they were not taken may be on the topic all the same. To send them again changes
        nothing, because they have the same event ids.

        Raises:
            DeliveryError: the broker did not take all of them in time, or too many requests wait for it.
        """
        if self._sending >= MAX_SENDING:
            raise DeliveryError(f"{MAX_SENDING} requests wait for the broker already")
        topic = self._settings.interactions_topic
        self._sending += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._connected.wait()
                assert self._producer is not None  # noqa: S101 -- `_connected` says so
                futures = [await self._producer.send(topic, value, key=user_id.encode()) for user_id, value in values]
                written = await asyncio.gather(*futures)
        except TimeoutError as error:
            raise DeliveryError(
                f"the broker at {self._settings.broker} did not answer within {self._timeout:g} s"
            ) from error
        except KafkaError as error:
            failure = sending_failed(self._settings, error, "events")
            raise DeliveryError(str(failure)) from error
        finally:
            self._sending -= 1
        return [Sent(one.topic, one.partition, one.offset) for one in written]

    async def _connect(self) -> None:
        """Connect, however long it takes. After that, aiokafka connects again by itself."""
        told = False
        while True:
            producer = make_producer(
                self._settings,
                max_batch_size=BATCH_BYTES,
                request_timeout_ms=int(self._timeout * 1000),  # what is not taken until then is given up
            )
            try:
                await start_producer(producer, self._settings)
            except (BrokerUnreachable, DeliveryError, OSError) as error:
                if not told:
                    logger.warning("events cannot be written: %s; trying again", error)
                told = True
                await asyncio.sleep(PAUSE)
                continue
            except asyncio.CancelledError:
                await stop_producer(producer)
                raise
            self._producer = producer
            self._connected.set()
            return
