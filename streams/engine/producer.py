"""Faust's producer, that sends nothing any more once this process may have lost its partitions, and writes each record once.

A process that stood still for longer than its session has records in its buffers that were made from a state that is no
longer the newest. They would leave the moment it goes on, before any of our code could look at the clock.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka import AIOKafkaProducer
from faust.transport.drivers import aiokafka as driver
from mode.utils.logging import get_logger

from streams.engine.consumer import Consumer

if TYPE_CHECKING:
    from streams.engine.app import App


class Producer(driver.Producer):
    """Idempotent, where the broker can: a record that is sent again after a lost answer is not written again."""

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    app: "App"  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.app.idempotence}

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        guard_client(producer, self.app.before_send)
        return producer


def guard_client(producer: AIOKafkaProducer, before_send: Callable[[], None]) -> None:
    """Call `before_send` before each request that the producer's client sends, its retries and its buffers' included."""
    client: Any = producer.client
    send = client.send

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        before_send()
        return await send(*args, **kwargs)

    client.send = guarded


class Transport(driver.Transport):
    """Kafka, as Faust's driver does it, with this project's consumer and producer."""

    Consumer: ClassVar[Any] = Consumer
    Producer: ClassVar[Any] = Producer
