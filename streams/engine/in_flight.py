"""Records on their way through a worker: given out in order, finished in any order, committed never past an unfinished one.

Partitions take turns: each has a room of its own, and what is given out comes from all of them, so that a partition with a
long backlog, or with a record that takes long, holds back no other.

Pure bookkeeping: no Kafka, no Faust. The consumer puts records in and commits what `committable` says; the worker takes
records and finishes them.

A *reading* begins at the committed offsets, with `begin`, and ends with `stop` and `forget`. Whatever is unfinished then
is delivered again, here or elsewhere. Within a reading the records of a partition come without a hole, so that the first
unfinished record bounds what may be committed.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from streams.kafka.records import Record

SMALLEST_SHARE = 16  # records of one partition


@dataclass(slots=True, eq=False)
class Pending:
    """A record that was read and is not yet committable."""

    record: Record
    forgotten: bool = False  # it will be delivered again: drop the work on it
    finished: bool = False
    _intake: "InFlightTracker" = field(kw_only=True, repr=False)

    def finish(self) -> None:
        """All that the record caused is at the broker."""
        if not self.finished:
            self.finished = True
            self._intake._finished(self)


@dataclass(slots=True)
class _Partition:
    committed: int  # the offset that the group has at the broker
    next: int  # the offset that comes next
    done: int  # all records below are finished
    queue: deque[Pending] = field(default_factory=deque[Pending])  # those from `done` on
    waiting: deque[Pending] = field(default_factory=deque[Pending])  # those that nobody has taken yet


class InFlightTracker:
    """What one worker has read and not finished yet."""

    def __init__(self, limit: int) -> None:
        """limit: records, at most, in equal shares for the partitions; no share is smaller than `SMALLEST_SHARE`."""
        self._limit = limit
        self._share = limit
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._turns: deque[_Partition] = deque()  # the partitions with waiting records; the first is next
        self._count = 0
        self._working = 0
        self.progress = 0  # moves with each finished record, and with whatever else a worker reports with `progressed`
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._changed()

    # -- the consumer's side

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """A new reading, of these partitions, each from the offset given."""
        self.forget()
        self._partitions = {tp: _Partition(offset, offset, offset) for tp, offset in positions.items()}
        self._share = max(self._limit // max(len(positions), 1), min(SMALLEST_SHARE, self._limit))
        self._changed()

    def put(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        """Records of a partition, in order. Ones that were put before, and partitions that are not being read, are ignored."""
        partition = self._partitions.get(tp)
        if partition is None:
            return
        had_a_turn = bool(partition.waiting)
        for record in records:
            if record.offset < partition.next:
                continue
            partition.next = record.offset + 1
            pending = Pending(record, _intake=self)
            partition.queue.append(pending)
            partition.waiting.append(pending)
            self._count += 1
        if partition.waiting and not had_a_turn:
            self._turns.append(partition)
        self._changed()

    def advance(self, tp: TopicPartition, position: int) -> None:
        """There is no record below this offset that was not put: what is left out are markers of transactions, or has expired."""
        partition = self._partitions.get(tp)
        if partition is None or position <= partition.next:
            return
        partition.next = position
        if not partition.queue:
            partition.done = position

    def stop(self) -> None:
        """Give out nothing more. What was given out may still be finished, and committed."""
        self._turns.clear()
        self._changed()

    def forget(self) -> None:
        """End the reading: whatever is unfinished is delivered again, here or elsewhere, and never committed from here."""
        for partition in self._partitions.values():
            for pending in partition.queue:
                pending.forgotten = True
        self._partitions = {}
        self._turns.clear()
        self._count = self._working = 0
        self._changed()

    async def room(self) -> dict[TopicPartition, int]:
        """How many records may be put of which partitions, once there is room for any or nothing is read at all."""
        await self._room.wait()
        rooms = {tp: self._share - len(partition.queue) for tp, partition in self._partitions.items()}
        return {tp: room for tp, room in rooms.items() if room > 0}

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The partitions that are being read, and the offset that comes next in each."""
        return {tp: partition.next for tp, partition in self._partitions.items()}

    @property
    def unfinished(self) -> dict[TopicPartition, int]:
        """The partitions that are being read, and the offset below which all is finished in each."""
        return {tp: partition.done for tp, partition in self._partitions.items()}

    def committable(self) -> dict[TopicPartition, int]:
        """For each partition where it has moved: the offset below which all is finished."""
        return {
            tp: partition.done for tp, partition in self._partitions.items() if partition.done > partition.committed
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has these offsets."""
        for tp, offset in offsets.items():
            if tp in self._partitions:
                self._partitions[tp].committed = offset

    # -- the worker's side

    async def take(self, limit: int) -> list[Pending]:
        """Between one and `limit` records, as soon as there are any: of all partitions, in the order of each."""
        while not self._turns:
            await self._some.wait()
        taken: list[Pending] = []
        while self._turns and len(taken) < limit:
            count = -((len(taken) - limit) // len(self._turns))  # an equal part of what is still to take, rounded up
            partition = self._turns.popleft()
            waiting = partition.waiting
            taken += [waiting.popleft() for _ in range(min(count, len(waiting)))]
            if waiting:
                self._turns.append(partition)
        self._working += len(taken)
        self._changed()
        return taken

    @property
    def crowded(self) -> bool:
        """Whether the records of some partition fill more than half of its share: it may soon have to wait."""
        return any(len(partition.queue) > self._share // 2 for partition in self._partitions.values())

    def progressed(self) -> None:
        """Something was done that finishes no record yet, say an attempt at a picture."""
        self.progress += 1

    async def idle(self) -> None:
        """Wait until every record that was taken is finished or forgotten."""
        await self._idle.wait()

    def __len__(self) -> int:
        """Records that were put and are not finished, or wait behind one that is not."""
        return self._count

    def _finished(self, pending: Pending) -> None:
        if pending.forgotten:
            return
        self.progress += 1
        self._working -= 1
        partition = self._partitions[TopicPartition(pending.record.topic, pending.record.partition)]
        while partition.queue and partition.queue[0].finished:
            done = partition.queue.popleft().record.offset + 1
            partition.done = done if partition.queue else partition.next
            self._count -= 1
        self._changed()

    def _changed(self) -> None:
        (self._some.set if self._turns else self._some.clear)()
        full = self._partitions and self._count >= self._share * len(self._partitions)
        (self._room.clear if full else self._room.set)()
        (self._idle.clear if self._working else self._idle.set)()
