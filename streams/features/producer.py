"""Sends records to `picture-features`, for commands. Workers send through the producer of their app."""

import asyncio
from collections.abc import Sequence

from aiokafka.errors import KafkaError

from streams.exceptions import DeliveryError
from streams.kafka.producing import make_producer, sending_failed, start_producer
from streams.kafka.records import Outgoing
from streams.settings import Settings


class FeaturesProducer:
    """An asynchronous context manager. Opening it raises BrokerUnreachable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.features_topic
        self._producer = make_producer(settings, linger_ms=5)

    async def __aenter__(self) -> "FeaturesProducer":
        await start_producer(self._producer, self._settings)
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
            raise sending_failed(self._settings, error, f"features for {self._topic}") from error
