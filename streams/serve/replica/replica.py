"""The bags as the API reads them: what is on disk and in memory of the served partitions, and who waits for changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from pathlib import Path

from streams import metrics
from streams.exceptions import StateError
from streams.kafka.partitioning import partition_of
from streams.profile.bag import Bag
from streams.profile.databases import RocksDBMemory, Watcher
from streams.profile.rows import decode_bag, prefix_of, user_of
from streams.serve.interface import Bags, Change, Held, NotServed, State
from streams.serve.replica.arrivals import Feed, Waiting, has
from streams.serve.replica.follower import ChangelogFollower
from streams.serve.replica.store import ReplicaStore
from streams.settings import Settings


class Replica(Bags):
    """A copy of the bags. Everything is of one event loop, so that what a call reads is of one moment."""

    def __init__(self, settings: Settings, row_bytes: Mapping[str, int], folder: Path) -> None:
        """Open nothing yet.

        Args:
            settings: where the broker is, which partitions are served, and the sizes of the caches.
            row_bytes: length of the embeddings of each embedder in use, by its version.
            folder: of the databases.
        """
        self._store = ReplicaStore(
            folder,
            RocksDBMemory(settings.rocksdb_memory),
            row_bytes,
            recent_slots=settings.recent_items,
            recent_bytes=settings.recent_memory,
        )
        self._follower = ChangelogFollower(settings, self._store)
        self._waiting = Waiting()
        self._feed = Feed()
        self._sampled: dict[int, bytes] = {}  # by partition: the prefix of the user who was sampled last
        self._store.watchers.append(self)
        metrics.replica_cached.set_function(lambda: self._store.cached)

    # -- its life

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` what happens to the bags. Call it before `open`."""
        self._store.watchers.append(watcher)

    def open(self) -> None:
        """Open what an earlier run left on disk. From now on it can be read. Raises TopicsError and StateError."""
        self._follower.open()

    async def run(self) -> None:
        """Follow the changelog until it is cancelled.

        Raises:
            StartupError: it found what a restart would not help.
            StateError: RocksDB reports a failure.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follower.run())
            group.create_task(self._store.compact_erased())

    def close(self) -> None:
        """Close the databases. Nothing can be read any more."""
        for partition in self._store.databases.partitions:
            self._store.databases.close(partition)

    # -- what is asked

    @property
    def known(self) -> asyncio.Event:
        """Set once the number of partitions of the bags is known."""
        return self._follower.known

    @property
    def caught_up(self) -> asyncio.Event:
        """Set once the replica is `ready`."""
        return self._follower.caught_up

    @property
    def still(self) -> float:
        """Seconds since the reader of the changelog came round (`Following.still`)."""
        return self._follower.still

    @property
    def partitions(self) -> int:
        """The number of partitions of the bags; 0 while it is not known."""
        return self._follower.partitions

    @property
    def ready(self) -> bool:
        """Whether each served partition was read to its end once, in this run or an earlier one."""
        return self._follower.ready

    def read(self, user_id: str) -> Held:
        """The bag of a user. Raises NotServed, and StateError if the disk fails."""
        partition = self._partition(user_id)
        return Held(self._store.bag(partition, user_id), self._follower.state(partition))

    async def holds(self, user_id: str, event_id: str, timeout: float) -> bool:
        """Wait until the bag holds an event, at most `timeout` seconds. Returns whether it does. Raises as `read` does."""
        if has(self._store.bag(self._partition(user_id), user_id), event_id):
            return True
        return await self._waiting.wait(user_id, event_id, timeout)

    def states(self) -> list[State]:
        """The state of each served partition; none while their number is not known."""
        return self._follower.states()

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Change]]]:
        """Changes from now on, in groups. A slow reader misses some: the newest of each user stay."""
        return self._feed.reader()

    def sample(self, slots: int) -> dict[str, Bag]:
        """Some bags with about so many slots, of all partitions, by user. The next call goes on behind them. Raises StateError."""
        partitions = list(self._store.databases.partitions)
        found: dict[str, Bag] = {}
        for partition in partitions:
            least = -(-slots // len(partitions))
            rows = self.users_after(partition, self._sampled.get(partition, b""), least)
            rows = rows or self.users_after(partition, b"", least)  # from the start again
            self._sampled[partition] = prefix_of(rows[-1][0]) if rows else b""
            found |= {user: decode_bag(some) for user, some in groupby(rows, lambda row: user_of(row[0]))}
        return found

    def users_after(self, partition: int, prefix: bytes, least: int) -> list[tuple[bytes, bytes]]:
        """The next rows of a partition on disk, as `BagDatabases.users_after` gives them: for who counts all bags."""
        return self._store.databases.users_after(partition, prefix, least)

    def _partition(self, user_id: str) -> int:
        if not self._follower.partitions:
            raise StateError("the bags were not read yet: no broker has answered since this worker started")
        partition = partition_of(user_id.encode(), self._follower.partitions)
        if not self._follower.serves(partition):
            raise NotServed(partition)
        return partition

    # -- what the store tells

    def opened(self, partition: int) -> None:
        """A partition was caught up: some of what is waited for may have come with it."""
        bags: dict[str, Bag] = {}
        for user_id in self._waiting.users:
            if partition_of(user_id.encode(), self._follower.partitions) == partition:
                bags[user_id] = self._store.bag(partition, user_id)
        self._waiting.arrived(bags)

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Some bags of a live partition changed."""
        del before
        self._waiting.arrived(after)
        offset = self._follower.state(partition).offset
        self._feed.add(Change(user_id, partition, offset) for user_id in after)

    def closed(self, partition: int) -> None:
        """A partition is read anew. Whoever waits for one of its events goes on waiting."""
