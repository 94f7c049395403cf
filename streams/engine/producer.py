"""Idempotent and fenced producer.

Idempotent: a record that is retried after a lost acknowledgement is not written twice. Fenced: nothing leaves once this
process may have lost its partitions. A process that was paused for longer than its session time-out still has records in its
buffers that come from an outdated state. They would leave as soon as the process resumes, before our code could look at the
clock; so the check stands before every request.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata
from faust.transport.drivers import aiokafka as driver
from mode.utils.logging import get_logger
from typing_extensions import override

from streams.engine.consumer import Consumer
from streams.engine.interface import EngineApp
from streams.kafka.records import Outgoing

PARTITIONS_CHECK = 1.0  # seconds without an answer after which a batch's partition is looked for in the metadata

_partitioner: Callable[[bytes | None, list[int], list[int]], int] = DefaultPartitioner()


class Producer(driver.Producer):
    """Faust's producer, idempotent where the broker supports it, with a check before each request."""

    logger = get_logger("faust.tastestream")  # for Faust's own messages at start and stop

    app: EngineApp  # pyright: ignore[reportIncompatibleVariableOverride] -- Faust's own type is its interface

    @override
    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.app.idempotence}

    @override
    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        producer = super()._new_producer(transactional_id)
        guard_client(producer, self.app.before_send)
        return producer

    async def send_batches(
        self, topic: str, records: Iterable[Outgoing], *, partition: int | None = None
    ) -> dict[int, int]:
        """Send records in as few of aiokafka's batches as possible, and wait for the broker.

        Args:
            topic: where to.
            records: those of one partition are written in this order. Two concurrent calls may interleave.
            partition: of all records; chosen by their keys, with aiokafka's partitioner, if None.

        Returns:
            The last offset written, by partition.

        Raises:
            KafkaError: the broker refused a batch.
            NotReady: the producer has not started.
        """
        producer = self._ensure_producer()
        outgoing = list(records)
        if not outgoing:
            return {}  # the topic need not exist
        while True:
            try:
                return await self._send_batches(producer, topic, outgoing, partition)
            except UnknownTopicOrPartitionError:
                if partition is not None:
                    raise
                # The topic was created again with fewer partitions: their keys choose among those.

    async def _send_batches(
        self, producer: AIOKafkaProducer, topic: str, outgoing: list[Outgoing], partition: int | None
    ) -> dict[int, int]:
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
        except BaseException:  # also when cancelled: nobody waits for these futures any more
            for future in sent:
                future.cancel()
            raise
        written = asyncio.gather(*sent)
        try:
            while not (await asyncio.wait([written], timeout=PARTITIONS_CHECK))[0]:
                _fail_partitions_that_are_gone(producer, topic, shares.keys())
        finally:
            written.cancel()  # if this is cancelled
        offsets = [done.offset + place for done, (_, place) in zip(written.result(), ends, strict=True)]
        return {number: offset for offset, (number, _) in zip(offsets, ends, strict=True)}


def _fail_partitions_that_are_gone(producer: AIOKafkaProducer, topic: str, partitions: Collection[int]) -> None:
    """Fail what waits for a partition that the topic no longer has: aiokafka would ask for its leader for ever.

    The metadata is fresh then, because aiokafka asks again and again.
    """
    known: set[int] | None = producer.client.cluster.partitions_for_topic(topic)
    if not known:  # the topic is gone, and may come back
        return
    waiting: Any = producer._message_accumulator._batches
    for partition in set(partitions) - known:
        for batch in waiting.pop(TopicPartition(topic, partition), ()):
            batch.failure(UnknownTopicOrPartitionError(f"{topic} has no partition {partition} any more"))


def _batches(producer: AIOKafkaProducer, records: list[Outgoing]) -> Iterable[Any]:
    """Pack records into aiokafka's batches, each closed, so that none of them lingers."""
    batch: Any = producer.create_batch()
    for key, value, headers in records:
        while batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:
            yield batch
            batch = producer.create_batch()
    if batch.record_count():
        batch.close()
        yield batch


def guard_client(producer: AIOKafkaProducer, before_send: Callable[[], None]) -> None:
    """Call `before_send` before each request of the producer's client, retries and buffered records included."""
    client: Any = producer.client
    send = client.send

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        before_send()
        return await send(*args, **kwargs)

    client.send = guarded


class Transport(driver.Transport):
    """Faust's Kafka transport with our consumer and producer."""

    Consumer: ClassVar[Any] = Consumer
    Producer: ClassVar[Any] = Producer
