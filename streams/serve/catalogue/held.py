"""Tells the catalogue, and others, which items the bags hold: all bags of a partition once, and then each change.

The replica tells of changes in the event loop, and they are taken in the thread of the catalogue, one after the other and in their
order.
A partition is read from its start in slices. What changes behind the slice that was read last comes with a later slice.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from itertools import groupby
from typing import Protocol

from streams.profile.bag import Bag
from streams.profile.rows import decode_bag, prefix_of, user_of, user_prefix

logger = logging.getLogger(__name__)

SLICE = 500  # rows that are read at a time, in a millisecond: requests wait meanwhile

UsersAfter = Callable[[int, bytes, int], list[tuple[bytes, bytes]]]
"""`BagDatabases.users_after`."""


class Taker(Protocol):
    """Is told of all bags, in one thread."""

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Some bags are other ones, each without the slots that did not change. Each is told once at the start, without a `before`."""

    def forget_bags(self) -> None:
        """All bags are about to be told again."""


class HeldItems:
    """A watcher of the bags (`streams.profile.databases.Watcher`).

    Attributes:
        takers: are told. Add one before the bags are watched.
    """

    def __init__(self, takers: Iterable[Taker], thread: Executor, users_after: UsersAfter) -> None:
        """Wait for partitions.

        Args:
            takers: are told.
            thread: one thread, in which they are told.
            users_after: reads the bags on disk, in the event loop.
        """
        self.takers = list(takers)
        self._thread = thread
        self._users_after = users_after
        # By partition: the prefix of the user who was read last, b"" before the first, None at the end.
        self._read: dict[int, bytes | None] = {}
        self._jobs: asyncio.Queue[Callable[[], object]] = asyncio.Queue()
        self._to_read = asyncio.Event()

    # -- what the replica tells

    def opened(self, partition: int) -> None:
        """All bags of a partition are there."""
        self._read[partition] = b""
        self._to_read.set()

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Some bags changed: what they had of the slots that changed, and what they have."""
        read = self._read.get(partition, b"")
        users = [user for user in after if read is None or user_prefix(user) <= read]
        if users:
            old, new = {user: before[user] for user in users}, {user: after[user] for user in users}
            self._jobs.put_nowait(lambda: self._tell(partition, old, new))

    def closed(self, partition: int) -> None:
        """The bags of a partition are there no longer: the others are counted anew."""
        self._read.pop(partition, None)
        self._jobs.put_nowait(self._forget)
        for other in self._read:
            self._read[other] = b""
        self._to_read.set()

    # -- the work

    @property
    def counted(self) -> bool:
        """Whether all bags on disk were told."""
        return bool(self._read) and all(read is None for read in self._read.values())

    async def run(self) -> None:
        """Tell until it is cancelled. Raises StateError."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_partitions())
            group.create_task(self._do_jobs())

    async def _do_jobs(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, await self._jobs.get())
            self._jobs.task_done()

    def _tell(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        for taker in self.takers:
            taker.written(partition, before, after)

    def _forget(self) -> None:
        for taker in self.takers:
            taker.forget_bags()

    async def _read_partitions(self) -> None:
        while True:
            partition = next((number for number, read in self._read.items() if read is not None), None)
            if partition is not None:
                self._read_slice(partition)
                await self._jobs.join()
                continue
            self._to_read.clear()
            await self._to_read.wait()

    def _read_slice(self, partition: int) -> None:
        read = self._read[partition]
        rows = self._users_after(partition, read or b"", SLICE)
        self._read[partition] = prefix_of(rows[-1][0]) if rows else None  # without an `await` since the rows were read
        if rows:
            self._jobs.put_nowait(lambda: self._tell(partition, {}, _bags(rows)))


def _bags(rows: list[tuple[bytes, bytes]]) -> dict[str, Bag]:
    return {user: decode_bag(some) for user, some in groupby(rows, lambda row: user_of(row[0]))}
