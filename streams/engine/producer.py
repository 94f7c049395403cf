"""Faust's producer, that sends nothing any more once this process may have lost its partitions, and writes each record once.

A process that stood still for longer than its session has records in its buffers that were made from a state that is no
longer the newest. They would leave the moment it goes on, before any of our code could look at the clock.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata
from faust.transport.drivers import aiokafka as driver
from mode.utils.logging import get_logger

from streams.engine.consumer import Consumer
from streams.engine.interface import EngineApp
from streams.kafka.records import Outgoing

_partitioner: Callable[[bytes | None, list[int], list[int]], int] = DefaultPartitioner()


class Producer(driver.Producer):
    """Idempotent, where the broker can: a record that is sent again after a lost answer is not written again."""

    logger = get_logger("faust.tastestream")  # for what Faust says of itself, at every start and stop

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.app.idempotence}

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        guard_client(producer, self.app.before_send)
        return producer

    async def send_batches(
        self, topic: str, records: Iterable[Outgoing], *, partition: int | None = None
    ) -> dict[int, int]:
        """Send records in as few batches as hold them, and wait for the broker; gives the last offset in each partition.

        partition: of all of them; by their keys, as aiokafka has it, if it is None. Records of one partition are written in
        this order; of two calls at once, in any. Raises KafkaError, and NotReady before the start.
        """
        producer = self._ensure_producer()
        outgoing = list(records)
        if not outgoing:
            return {}  # and the topic need not be there
        everywhere = sorted(await producer.partitions_for(topic))
        led: list[int] = list(producer.client.cluster.available_partitions_for_topic(topic) or everywhere)
        shares: dict[int, list[Outgoing]] = {}
        for record in outgoing:
            number = _partitioner(record[0], everywhere, led) if partition is None else partition
            shares.setdefault(number, []).append(record)
        sent: list[asyncio.Future[RecordMetadata]] = []
        ends: list[tuple[int, int]] = []  # partition, and place of the last record in the batch
        try:
            for number, share in shares.items():
                for batch in _batches(producer, share):
                    sent.append(await producer.send_batch(batch, topic, partition=number))
                    ends.append((number, batch.record_count() - 1))
        except BaseException:  # cancelled, too: nobody waits for these any more
            for future in sent:
                future.cancel()
            raise
        written = await asyncio.gather(*sent)
        return {number: done.offset + place for done, (number, place) in zip(written, ends, strict=True)}


def _batches(producer: AIOKafkaProducer, records: list[Outgoing]) -> Iterable[Any]:
    """aiokafka's batches of these records. They are closed: there is nothing more to linger for."""
    batch: Any = producer.create_batch()
    for key, value, headers in records:
        while batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:
            yield batch
            batch = producer.create_batch()
    if batch.record_count():
        batch.close()
        yield batch


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
