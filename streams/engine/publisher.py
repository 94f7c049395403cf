"""Delivery: sending records and knowing that the broker has them. Faust logs a failed record and moves on.

Not for: what to send (the workers), dead letters (`dead_letters/`), or when an offset may be committed (`engine/in_flight.py`).
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from aiokafka.errors import KafkaError
from faust.exceptions import NotReady, ProducerSendError

from streams.engine.app import App
from streams.exceptions import DeliveryError
from streams.kafka.records import Headers, Outgoing


class Publisher:
    """Sends records through the app's producer, and waits until all in-sync replicas have them.

    Its methods raise DeliveryError when the broker refuses; one that is away is waited for.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def send(self, topic: str, key: bytes | None, value: bytes | None, *, headers: Headers = ()) -> None:
        """One record, which goes out with whatever else is sent meanwhile."""
        if key is None and value is None:  # which Kafka takes, and aiokafka in batches only
            await self.send_all(topic, [(key, value, headers)])
            return
        with _failures(topic):
            await (await self._app.producer.send(topic, key, value, None, None, list(headers)))

    async def send_all(
        self, topic: str, records: Iterable[Outgoing], *, partition: int | None = None
    ) -> dict[int, int]:
        """Records that are there together; gives the last offset in each partition.

        partition: of all of them; by their keys if it is None. Records of one partition are written in this order.
        """
        with _failures(topic):
            return await self._app.producer.send_batches(topic, records, partition=partition)


@contextmanager
def _failures(topic: str) -> Generator[None]:
    try:
        yield
    except (KafkaError, ProducerSendError, NotReady) as error:
        raise DeliveryError(f"the broker did not take records for {topic}: {error!r}") from error
