"""Delivery: sending records and knowing that the broker has them. Faust logs a failed record and moves on.

Not for: what to send (the workers), dead letters (`dead_letters/`), or when an offset may be committed (`engine/intake.py`).
"""

import asyncio
from collections.abc import Awaitable

from aiokafka.errors import KafkaError
from faust import App
from faust.exceptions import NotReady, ProducerSendError
from faust.types.tuples import RecordMetadata

from streams.engine.intake import Headers
from streams.exceptions import DeliveryError


class Publisher:
    """Sends records through the app's producer."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def send(
        self, topic: str, key: bytes | None, value: bytes | None, *, partition: int | None = None, headers: Headers = ()
    ) -> "asyncio.Future[int]":
        """Hand a record to the producer; waits only while its buffer is full.

        The future gives the record's offset once all in-sync replicas have it, and raises DeliveryError if they do not
        within the producer's time-out. Records of one partition are written in the order of the calls.
        """
        try:
            sent = await self._app.producer.send(topic, key, value, partition, None, list(headers))
        except (KafkaError, ProducerSendError, NotReady) as error:
            raise DeliveryError(f"could not send a record to {topic}: {error!r}") from error
        return asyncio.ensure_future(_offset(topic, sent))


async def _offset(topic: str, sent: Awaitable[RecordMetadata]) -> int:
    try:
        return (await sent).offset
    except KafkaError as error:
        raise DeliveryError(f"the broker did not take a record for {topic}: {error!r}") from error
