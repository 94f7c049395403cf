"""Sends records to `picture-features`, for commands. Workers send through the producer of their app."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.kafka.records import Outgoing
from streams.settings import Settings


class FeaturesProducer:
    """An asynchronous context manager. Opening it raises BrokerUnreachable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.features_topic
        self._producer = AIOKafkaProducer(
            **settings.aiokafka(), acks="all", enable_idempotence=settings.idempotence, linger_ms=5
        )

    async def __aenter__(self) -> "FeaturesProducer":
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise self._failure(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, records: Sequence[Outgoing], partition: int | None = None) -> None:
        """Send records, and wait until the broker has them.

        Args:
            records: to send.
            partition: of all; their keys choose it if it is None.

        Raises:
            DeliveryError: The broker did not take one within `broker_timeout`.
            BrokerUnreachable: It went away.
        """
        try:
            async with asyncio.timeout(self._settings.broker_timeout):
                sent = [
                    await self._producer.send(self._topic, value, key=key, partition=partition)
                    for key, value, _ in records
                ]
                await asyncio.gather(*sent)
        except TimeoutError as error:
            raise DeliveryError(
                f"the broker at {self._settings.broker} took no features within {self._settings.broker_timeout:g} s "
                "(TASTESTREAM_BROKER_TIMEOUT)"
            ) from error
        except KafkaError as error:
            raise self._failure(error) from error

    def _failure(self, error: KafkaError) -> BrokerUnreachable | DeliveryError:
        if isinstance(error, KafkaConnectionError):
            return BrokerUnreachable(f"the broker at {self._settings.broker} went away: {error}")
        return DeliveryError(
            f"the broker at {self._settings.broker} did not take features for {self._topic}: {error!r}"
        )
