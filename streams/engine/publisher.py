"""Sends records and waits until the broker has them. Faust only logs a record that failed, and moves on.

Not for: what to send (the workers), dead letters (`dead_letter.py`), or when an offset may be committed (`in_flight.py`).
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

    Its methods raise DeliveryError when the broker refuses a record. They wait for a broker that is away.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Headers = (),
        partition: int | None = None,
    ) -> None:
        """Send one record, together with whatever else is sent at the same time. The key chooses the partition if it is None."""
        if (
            key is None and value is None
        ):  # aiokafka's send rejects a record with neither key nor value; a batch takes it
            await self.send_all(topic, [(key, value, headers)], partition=partition)
            return
        with _as_delivery_errors(topic):
            await (await self._app.producer.send(topic, key, value, partition, None, list(headers)))

    async def send_all(
        self, topic: str, records: Iterable[Outgoing], *, partition: int | None = None
    ) -> dict[int, int]:
        """Send records as few batches.

        Args:
            topic: where to.
            records: those of one partition are written in this order.
            partition: of all records; chosen by their keys if None.

        Returns:
            The last offset written, by partition.
        """
        with _as_delivery_errors(topic):
            return await self._app.producer.send_batches(topic, records, partition=partition)


@contextmanager
def _as_delivery_errors(topic: str) -> Generator[None]:
    try:
        yield
    # aiokafka asserts that a partition exists: a topic that was created again may have fewer.
    except (KafkaError, ProducerSendError, NotReady, AssertionError) as error:
        raise DeliveryError(f"the broker did not accept records for {topic}: {error!r}") from error
