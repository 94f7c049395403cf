"""The in-flight tracker: which records are being processed, and which offsets may be committed.

Records are handed out, finished in any order, and never committed past an unfinished one. Partitions take turns: each has a
share of the capacity, and a batch takes records from all of them. A partition with a long backlog, or with a slow record,
therefore delays no other partition.

The capacity is a number of records, and a number of bytes: a producer may send records of a megabyte. A record that is larger
than the share of its partition passes by itself. The bytes of a record count until it is finished; its place counts until the
records before it are finished as well.

Pure bookkeeping, without Kafka and Faust. The consumer puts records in and commits what `committable` returns; the worker
takes records and finishes them.

A *generation* starts at the committed offsets, with `begin`, and ends with `stop` and `forget`. Its unfinished records are
delivered again, to this worker or another. Within a generation the records of a partition have no gaps, so the first
unfinished record limits what may be committed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from aiokafka import TopicPartition

from streams.kafka.records import Record
from streams.runtime.crash_journal import quarantine

SMALLEST_SHARE = 16  # records of one partition

# Bytes of Python objects around a record, measured: 400, and 1,400 of the smallest task that works on it.
RECORD_OVERHEAD = 2048

# Bytes of Python objects around one header, measured: 150. A megabyte holds 200,000 empty headers.
HEADER_OVERHEAD = 160

UNLIMITED = 2**63  # bytes


def size_of(record: Record) -> int:
    """The memory that a record takes, bytes."""
    size = RECORD_OVERHEAD + len(record.value or b"") + len(record.key or b"")
    for name, content in record.headers:
        size += HEADER_OVERHEAD + len(name) + len(content or b"")
    return size


class Room(NamedTuple):
    """How much may be read of a partition at the moment."""

    records: int
    size: int  # bytes; the last record may exceed it


@dataclass(slots=True, eq=False)
class Pending:
    """A record that was read and may not be committed yet."""

    record: Record = field(repr=False)  # until it is finished; afterwards only its place is kept
    offset: int
    forgotten: bool = False  # it will be delivered again: drop the work on it
    finished: bool = False
    _size: int = field(kw_only=True, repr=False)  # bytes
    _partition: "_Partition" = field(kw_only=True, repr=False)
    arrived: float = 0.0  # when it was read, seconds of the monotonic clock
    quarantined: bool = False  # it has killed the worker before: do not process it
    _tracker: "InFlightTracker" = field(kw_only=True, repr=False)

    def check(self) -> None:
        """Raise EventError if the record must not be processed."""
        if self.quarantined:
            raise quarantine()

    def crowded(self) -> bool:
        """Whether its partition uses more than half of its share, so that it may soon have to wait."""
        return not self.forgotten and len(self._partition.queue) > self._tracker.share // 2

    def finish(self) -> None:
        """Report that the broker has everything that the record caused."""
        if not self.finished:
            self.finished = True
            del self.record  # it may have to wait behind a slow one; its memory must not
            self._tracker._finished(self)


@dataclass(slots=True, eq=False)
class _Partition:
    committed: int  # the group's committed offset
    next: int  # the next offset to read
    done: int  # all records below it are finished
    queue: deque[Pending] = field(default_factory=deque[Pending])  # from `done` on
    waiting: deque[Pending] = field(default_factory=deque[Pending])  # not taken yet
    size: int = 0  # bytes of the records that are not finished


class InFlightTracker:
    """The records that one worker has read and not finished."""

    def __init__(self, limit: int, max_bytes: int = UNLIMITED) -> None:
        """Track at most `limit` records of at most `max_bytes` bytes together, in equal shares per partition.

        No share is smaller than `SMALLEST_SHARE` records, or than one record of any size.
        """
        self._limit = limit
        self.share = limit  # maximum number of records of one partition
        self._max_bytes = max_bytes
        self._byte_share = max_bytes
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._turns: deque[_Partition] = deque()  # partitions with waiting records; the first is next
        self._count = 0
        self._size = 0  # bytes of the records that are not finished
        self._working = 0
        self._paused = False
        self.moved = 0.0  # when a record was finished or `progressed` called last, or when a first record came; monotonic seconds
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._changed()

    # -- for the consumer

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Start a generation with these partitions, each at the given offset."""
        self.forget()
        self._partitions = {tp: _Partition(offset, offset, offset) for tp, offset in positions.items()}
        count = max(len(positions), 1)
        self.share = max(self._limit // count, min(SMALLEST_SHARE, self._limit))
        self._byte_share = self._max_bytes // count
        self._room.set()
        self._changed()

    def put(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        """Add records of a partition, in order. Ignores records that were put before, and partitions that are not read."""
        partition = self._partitions.get(tp)
        if partition is None:
            return
        had_a_turn = bool(partition.waiting)
        now = monotonic()
        if not self._count:
            self.moved = now
        for record in records:
            if record.offset < partition.next:
                continue
            partition.next = record.offset + 1
            size = size_of(record)
            pending = Pending(record, record.offset, _size=size, _partition=partition, arrived=now, _tracker=self)
            partition.size += size
            self._size += size
            partition.queue.append(pending)
            partition.waiting.append(pending)
            self._count += 1
        if partition.waiting and not had_a_turn:
            self._turns.append(partition)
        self._changed()

    def advance(self, tp: TopicPartition, position: int) -> None:
        """Mark every offset below `position` as seen. Those without a record are transaction markers, or have expired."""
        partition = self._partitions.get(tp)
        if partition is None or position <= partition.next:
            return
        partition.next = position
        if not partition.queue:
            partition.done = position

    def stop(self) -> None:
        """Hand out no more records. Those that were taken can still be finished and committed."""
        self._turns.clear()
        self._changed()

    def forget(self) -> None:
        """End the generation: unfinished records are delivered again and never committed from here."""
        for partition in self._partitions.values():
            for pending in partition.queue:
                pending.forgotten = True
        self._partitions = {}
        self._turns.clear()
        self._count = self._size = self._working = 0
        self._room.set()
        self._changed()

    async def room(self) -> dict[TopicPartition, Room]:
        """Wait until a partition has room, or nothing is read at all. Returns how much fits, by partition."""
        while True:
            rooms = {
                tp: Room(self.share - len(partition.queue), self._byte_share - partition.size)
                for tp, partition in self._partitions.items()
                if self._has_room(partition)
            }
            if rooms or not self._partitions:
                return rooms
            self._room.clear()
            await self._room.wait()

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read, by partition."""
        return {tp: partition.next for tp, partition in self._partitions.items()}

    @property
    def unfinished(self) -> dict[TopicPartition, int]:
        """The offset below which every record is finished, by partition."""
        return {tp: partition.done for tp, partition in self._partitions.items()}

    @property
    def committed_offsets(self) -> dict[TopicPartition, int]:
        """The group's committed offset, by partition."""
        return {tp: partition.committed for tp, partition in self._partitions.items()}

    def committable(self) -> dict[TopicPartition, int]:
        """The same as `unfinished`, for the partitions where it is above the committed offset."""
        return {
            tp: partition.done for tp, partition in self._partitions.items() if partition.done > partition.committed
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Record that the broker has stored these offsets."""
        for tp, offset in offsets.items():
            if tp in self._partitions:
                self._partitions[tp].committed = offset

    # -- for the worker

    async def some(self) -> None:
        """Wait for records that can be taken."""
        while not self._some.is_set():
            await self._some.wait()

    async def take(self, limit: int) -> list[Pending]:
        """Wait for records and take between one and `limit` of them, from all partitions, each in its own order."""
        await self.some()
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
    def available(self) -> bool:
        """Whether there are records that can be taken."""
        return self._some.is_set()

    @property
    def working(self) -> bool:
        """Whether a record that was taken is not finished or forgotten."""
        return self._working > 0

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Wait until no record is worked on, and hand out none while this is open: something else may end the process."""
        self._paused = True
        self._changed()
        try:
            await self.idle()
            yield
        finally:
            self._paused = False
            self._changed()

    def progressed(self) -> None:
        """Report progress that finishes no record, such as an attempt to fetch a picture."""
        self.moved = monotonic()

    async def idle(self) -> None:
        """Wait until every record that was taken is finished or forgotten."""
        await self._idle.wait()

    def __len__(self) -> int:
        """Records that are unfinished, or wait behind an unfinished one."""
        return self._count

    def _has_room(self, partition: _Partition) -> bool:
        return (
            len(partition.queue) < self.share
            and partition.size < self._byte_share
            and self._size < self._max_bytes  # others may have records that are larger than their shares
        )

    def _finished(self, pending: Pending) -> None:
        if pending.forgotten:
            return
        self.moved = monotonic()
        self._working -= 1
        partition = pending._partition
        partition.size -= pending._size
        self._size -= pending._size
        while partition.queue and partition.queue[0].finished:
            done = partition.queue.popleft().offset + 1
            partition.done = done if partition.queue else partition.next
            self._count -= 1
        self._room.set()
        self._changed()

    def _changed(self) -> None:
        (self._some.set if self._turns and not self._paused else self._some.clear)()
        (self._idle.clear if self._working else self._idle.set)()
