"""Sends many records, each to a partition that the caller names, with a rate, and waits until the broker has them."""

import asyncio
from collections import Counter, deque
from contextlib import suppress
from time import monotonic
from typing import Any, Self

from aiokafka.errors import KafkaError

from streams.exceptions import BrokerUnreachable, DeliveryError
from streams.kafka.producing import make_producer, sending_failed, start_producer, stop_producer
from streams.kafka.records import Headers
from streams.settings import Settings

BATCH_BYTES = 128 * 1024  # of records to one partition
IN_FLIGHT = 16  # batches that the broker has not acknowledged, at most
BURST = 0.05  # seconds of the rate that are sent without a pause in between
FLUSH_TIMEOUT = 5.0  # seconds to wait for the batches in flight when the command is interrupted


class BulkSender:
    """Sends at most `rate` records a second to one topic. An asynchronous context manager.

    It counts what the broker has in `sent`, by what the caller says of each. At its end everything is acknowledged, also if it
    ends by an exception (DeliveryError, BrokerUnreachable, a cancellation) and the broker still answers.
    """

    def __init__(self, settings: Settings, topic: str, *, rate: float | None = None, no_partition: str = "") -> None:
        """Does not connect yet.

        Args:
            settings: where the broker is.
            topic: its name.
            rate: None for no limit.
            no_partition: what to say of a partition that the topic does not have.
        """
        self.sent: Counter[str] = Counter()
        self._settings = settings
        self._topic = topic
        self._no_partition = no_partition
        self._pause = 1 / rate if rate else 0.0
        self._next = 0.0  # when the next one may be sent, on the monotonic clock
        self._open: dict[int, tuple[Any, Counter[str]]] = {}  # by partition: aiokafka's batch, and what is in it
        self._in_flight: deque[tuple[asyncio.Future[Any], Counter[str]]] = deque()
        self._producer = make_producer(settings, max_batch_size=BATCH_BYTES)

    async def __aenter__(self) -> Self:
        await start_producer(self._producer, self._settings)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            with suppress(TimeoutError, DeliveryError, BrokerUnreachable):
                async with asyncio.timeout(FLUSH_TIMEOUT):
                    while self._in_flight:
                        await self._settle()
            for flight in self._in_flight:
                flight[0].cancel()
            await stop_producer(self._producer)

    async def send_record(
        self, key: bytes | None, value: bytes | None, partition: int, how: str, headers: Headers = ()
    ) -> None:
        """Start to send a record. `how`: what to count it as."""
        if self._pause:
            await self._wait_for_turn()
        while True:
            batch, counts = self._open.get(partition) or self._opened(partition)
            if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is not None:
                counts[how] += 1
                return
            await self._hand_over(partition)

    async def flush(self) -> None:
        """Wait until the broker has everything."""
        for partition in list(self._open):
            await self._hand_over(partition)
        while self._in_flight:
            await self._settle()

    async def _wait_for_turn(self) -> None:
        ahead = self._next - monotonic()
        if ahead > BURST:
            for partition in list(self._open):
                await self._hand_over(partition)
            await asyncio.sleep(ahead)
        self._next = max(self._next, monotonic()) + self._pause

    def _opened(self, partition: int) -> tuple[Any, Counter[str]]:
        counts: Counter[str] = Counter()
        self._open[partition] = self._producer.create_batch(), counts
        return self._open[partition]

    async def _hand_over(self, partition: int) -> None:
        """Send what there is for a partition, once few enough batches are in flight."""
        batch, counts = self._open.pop(partition)
        batch.close()
        try:
            self._in_flight.append((await self._producer.send_batch(batch, self._topic, partition=partition), counts))
        except KafkaError as error:
            raise sending_failed(self._settings, error, "records") from error
        except AssertionError as error:  # aiokafka's word for a partition that does not exist
            raise DeliveryError(f"{self._topic} has no partition {partition}{self._no_partition}") from error
        while len(self._in_flight) > IN_FLIGHT:
            await self._settle()

    async def _settle(self) -> None:
        """Wait until the oldest batch in flight is acknowledged."""
        future, counts = self._in_flight[0]
        # Unlike `wait_for`, `wait` does not cancel the future when the time is over.
        await asyncio.wait([future], timeout=self._settings.broker_timeout)
        if not self._in_flight or self._in_flight[0][0] is not future:
            return  # another task has settled it
        if not future.done():
            raise BrokerUnreachable(
                f"the broker at {self._settings.broker} did not take records within {self._settings.broker_timeout:g} s "
                "(TASTESTREAM_BROKER_TIMEOUT)"
            )
        self._in_flight.popleft()
        try:
            future.result()
        except KafkaError as error:
            raise sending_failed(self._settings, error, "records") from error
        self.sent.update(counts)
