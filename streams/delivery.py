"""Delivery: sending records and knowing that the broker has them; acknowledging events in order, never ahead.

Faust can do both, but not together: it logs a failed record and moves on, and it lets a committed offset pass an event that
is still being worked on. Not for: what to send (the workers) or dead letters (`dead_letters/`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError
from faust import App
from faust.exceptions import NotReady, ProducerSendError
from faust.types import TP, EventT
from faust.types.tuples import RecordMetadata

from streams.exceptions import DeliveryError

Event = EventT[Any]
Headers = Sequence[tuple[str, bytes]]


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


@dataclass(slots=True, eq=False)
class Pending:
    """An event that arrived and is not yet acknowledged."""

    event: Event
    forgotten: bool = False  # it will be delivered again, here or elsewhere: drop the work on it
    _acks: "InOrderAcks" = field(kw_only=True, repr=False)
    _finished: bool = False

    def finish(self) -> None:
        """All that the event caused is at the broker: acknowledge it as soon as no older event of its partition is pending."""
        self._finished = True
        self._acks._acknowledge(self.event.message.tp)

    @property
    def finished(self) -> bool:
        return self._finished


class InOrderAcks:
    """Acknowledges the contiguous finished prefix of each partition, however the work finishes.

    A committed offset then never passes an older event that is still in flight. For the same reason every event has to be
    noted in the very moment it arrives: one that is not known here could be passed.
    """

    def __init__(self, limit: int = 4096) -> None:
        """limit: unacknowledged events at which `room` starts to wait; it bounds memory while the oldest one is slow."""
        self._limit = limit
        self._queues: dict[TP, deque[Pending]] = {}
        self._count = 0
        self._room = asyncio.Event()
        self._empty = asyncio.Event()
        self._changed()

    def arrived(self, event: Event) -> Pending:
        """Note an event, in the order of its partition. Call `finish` on what this returns when its work is done."""
        pending = Pending(event, _acks=self)
        self._queues.setdefault(event.message.tp, deque()).append(pending)
        self._count += 1
        self._changed()
        return pending

    def forget(self) -> None:
        """At a rebalance: whatever is pending will be delivered again, here or elsewhere, so it is never acknowledged."""
        for queue in self._queues.values():
            for pending in queue:
                pending.forgotten = True
        self._queues.clear()
        self._count = 0
        self._changed()

    async def room(self) -> None:
        """Wait while more events than the limit are unacknowledged."""
        await self._room.wait()

    async def empty(self) -> None:
        """Wait until every event that arrived is acknowledged or forgotten."""
        await self._empty.wait()

    def __len__(self) -> int:
        """Events that are not acknowledged."""
        return self._count

    def _acknowledge(self, tp: TP) -> None:
        queue = self._queues.get(tp)
        while queue and queue[0].finished:
            queue.popleft().event.ack()
            self._count -= 1
        self._changed()

    def _changed(self) -> None:
        (self._room.set if self._count <= self._limit else self._room.clear)()
        (self._empty.clear if self._count else self._empty.set)()
