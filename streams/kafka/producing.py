"""What the producers of commands and of the API share: how they start and stop, and what their errors mean.

Workers that consume have a producer of their own (`streams.engine.producer`), which is fenced by the consumer's session.
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.settings import Settings

STOP_TIMEOUT = 5.0  # seconds; a broker that went away acknowledges nothing more


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """A producer that waits for all replicas. It is not started yet."""
    return AIOKafkaProducer(**settings.aiokafka(), acks="all", enable_idempotence=settings.idempotence, **options)


async def start_producer(producer: AIOKafkaProducer, settings: Settings) -> None:
    """Start a producer. Raises BrokerUnreachable or DeliveryError, and stops it then."""
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise sending_failed(settings, error, "a connection") from error


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer, also if the broker went away."""
    with suppress(TimeoutError):
        await asyncio.wait_for(producer.stop(), STOP_TIMEOUT)


def sending_failed(settings: Settings, error: KafkaError, what: str) -> BrokerUnreachable | DeliveryError:
    """What an error of a producer means. `what`: that was sent."""
    if isinstance(error, KafkaConnectionError):
        return BrokerUnreachable(f"the broker at {settings.broker} went away: {error}")
    return DeliveryError(f"the broker at {settings.broker} did not take {what}: {error!r}")
