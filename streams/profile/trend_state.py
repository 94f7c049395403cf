"""What the bags of this worker add to the trend, and the trend of all workers.

For each assigned partition:

    1. When its bags are recovered, all of them are counted in the background, in slices. Users whose bags change meanwhile are
       counted once: before they are reached, what is on disk counts; afterwards, the change is added.
    2. From then on each change of a bag is added. So a count that is wrong for any reason is right again after an assignment.
    3. A snapshot goes to `category-trend` when the first event of a newer day was folded, and else every TREND_INTERVAL if the
       counts changed. It is written again if the topic has another one in its place.

Nothing is published for a partition before step 1 is done: the last snapshot, by whichever worker, stays in force. Every worker
scores with the sum over the topic, and not with its own counts, so that all agree, and an answer can name the version.

Without labels in the served bundle nothing of this happens.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from time import monotonic, perf_counter

from model.bundle import Bundle
from model.item_labels import ItemLabels
from model.quantization import HEADER_BYTES
from streams import metrics
from streams.engine.publisher import Publisher
from streams.exceptions import DeliveryError
from streams.profile.bag import Bag, Embedder
from streams.profile.counts import Change, Counts, changes_of, in_hundredths
from streams.profile.databases import BagDatabases
from streams.profile.rows import decode_bag, prefix_of, user_prefix
from streams.settings import Settings
from streams.trend.follower import TrendFollower
from streams.trend.snapshots import SnapshotError, encode_snapshot, partition_key, snapshot_of
from streams.trend.trend import Trend

logger = logging.getLogger(__name__)

SLICE = 256  # rows that are counted at a time: a few milliseconds
BUSY_SHARE = 0.25  # of a processor that counting takes at most while there are events
PATIENCE = 10.0  # seconds for which a start waits for the trend
TICK = 1.0  # seconds between two looks at what is due, at most
RETRY = 10.0  # seconds until a snapshot that the broker refused is sent again
DAILY_BYTES = 512 * 1024**2  # of the topic, which keeps snapshots for a day: large ones are written less often


@dataclass(eq=False)
class _Partition:
    """The counts of one partition."""

    labels: ItemLabels
    counts: Counts
    users: int = 0  # that were counted
    scanned: bytes | None = b""  # prefix of the last user whose rows were counted; None: all were
    started: float = 0.0  # when counting began
    changed: bool = False  # since the last snapshot
    newest: int = -1  # the newest day of the last snapshot
    due: float = 0.0  # when the next snapshot may be written
    offset: int | None = None  # of the last snapshot


class TrendState:
    """Counts the assigned partitions, publishes the counts, and follows the topic. A `Watcher` of the bags."""

    def __init__(
        self, settings: Settings, store: BagDatabases, publisher: Publisher, partitions: int, bundle: Bundle
    ) -> None:
        """Does not start yet.

        Args:
            settings: type weights, the topic and its interval.
            store: the bags.
            publisher: sends the snapshots.
            partitions: number of partitions of the bags.
            bundle: the one that is served.
        """
        self._topic = settings.category_trend_topic
        self._interval = settings.trend_interval
        self._hundredths = in_hundredths(settings.type_weights)
        self._store = store
        self._publisher = publisher
        self._all_partitions = partitions
        self._labels: ItemLabels | None = None
        self._labels_version = ""
        self._categories = 0
        self._embedder = Embedder("", 0)
        self._follower = TrendFollower(settings, partitions, "", 0)
        self._open: set[int] = set()  # partitions whose bags are on disk
        self._counted: dict[int, _Partition] = {}
        self._topics_seen = 0
        self._events = False  # whether bags changed since the last slice
        self._told = ""  # why a snapshot could not be sent
        self._to_scan = asyncio.Event()
        self._to_publish = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.use(bundle, bundle.item_labels())

    def of(self, bundle: Bundle) -> Trend:
        """What is wanted now, as a bundle counts it. Any thread may ask.

        A trend of nothing for a bundle without labels, and for one that another has just replaced.
        """
        return self._follower.trend(bundle.labels_version, len(bundle.categories))

    # -- the bundle

    def use(self, bundle: Bundle, labels: ItemLabels | None) -> None:
        """Count by the labels of another bundle from now on; by the same ones if only the rest of the bundle differs.

        Args:
            bundle: the one that is served.
            labels: its `item_labels`.
        """
        if bundle.labels_version == self._labels_version and len(bundle.categories) == self._categories:
            return
        self._labels, self._labels_version, self._categories = labels, bundle.labels_version, len(bundle.categories)
        self._embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
        self._follower.use(self._labels_version, self._categories)
        for partition in self._open:
            self._count_anew(partition)
        self._run_or_stop()

    # -- what the table tells

    def opened(self, partition: int) -> None:
        """Count the bags of a partition."""
        self._open.add(partition)
        self._count_anew(partition)

    def closed(self, partition: int) -> None:
        """Forget the counts of a partition."""
        self._open.discard(partition)
        self._counted.pop(partition, None)
        self._show_uncounted()

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        """Add what changed in the bags of some users."""
        state = self._counted.get(partition)
        if state is None:
            return
        self._events = True
        changes: list[Change] = []
        for user, bag in after.items():
            if state.scanned is None or user_prefix(user) <= state.scanned:  # otherwise counting comes to it
                changes += changes_of(before[user], bag, embedder=self._embedder, hundredths=self._hundredths)
        if not changes:
            return
        state.changed = True
        state.counts.add(changes)
        if max(item.day for _, item in changes) > state.newest:
            state.due = 0.0
            self._to_publish.set()

    def _count_anew(self, partition: int) -> None:
        self._counted.pop(partition, None)
        if self._labels is not None:
            self._counted[partition] = _Partition(self._labels, Counts(self._labels))
            self._to_scan.set()
        self._show_uncounted()

    def _show_uncounted(self) -> None:
        metrics.trend_uncounted.set(sum(state.scanned is not None for state in self._counted.values()))

    # -- tasks

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Count, publish and follow while this is open. It opens when the trend is there, or cannot be had."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._run_or_stop()
            if self._tasks:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._follower.caught_up.wait(), PATIENCE)
            try:
                yield
            finally:
                self._group = None
                self._stop()

    def _run_or_stop(self) -> None:
        """Run the tasks if the bundle has labels, stop them if it has none."""
        if self._labels is None:
            self._stop()
        elif self._group is not None and not self._tasks:
            self._tasks = [
                self._group.create_task(work) for work in (self._follower.run(), self._scan(), self._publish())
            ]

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _scan(self) -> None:
        """Count the bags of one partition after the other. Raises StateError."""
        while True:
            waiting = [number for number, state in self._counted.items() if state.scanned is not None]
            if waiting:
                await self._scan_partition(waiting[0], self._counted[waiting[0]])
            else:
                self._to_scan.clear()
                await self._to_scan.wait()

    async def _scan_partition(self, partition: int, state: _Partition) -> None:
        state.started = monotonic()
        while self._counted.get(partition) is state and state.scanned is not None:
            rows = self._store.users_after(partition, state.scanned, SLICE)
            if not rows:
                self._scanned(partition, state)
                return
            state.scanned = prefix_of(rows[-1][0])  # without an `await` since the rows were read
            begun = perf_counter()
            counts, users = await asyncio.to_thread(self._counts_of, rows, state.labels)
            state.counts.add_rows(counts.rows())
            state.users += users
            busy, self._events = self._events, False
            await asyncio.sleep((perf_counter() - begun) * (1 / BUSY_SHARE - 1) if busy else 0)

    def _counts_of(self, rows: list[tuple[bytes, bytes]], labels: ItemLabels) -> tuple[Counts, int]:
        """The counts of the users with these rows, and their number."""
        counts, users, nothing = Counts(labels), 0, Bag()
        for _, some in groupby(rows, lambda row: prefix_of(row[0])):
            bag = decode_bag(some)
            users += 1
            counts.add(changes_of(nothing, bag, embedder=self._embedder, hundredths=self._hundredths))
        counts.rows()
        return counts, users

    def _scanned(self, partition: int, state: _Partition) -> None:
        """All bags of a partition are counted."""
        state.scanned, state.changed, state.due = None, True, 0.0
        seconds = monotonic() - state.started
        metrics.trend_scan_seconds.observe(seconds)
        logger.info("partition %d: counted the bags of %d users in %.1f s", partition, state.users, seconds)
        self._show_uncounted()
        self._to_publish.set()

    # -- publishing

    async def _publish(self) -> None:
        """Write the snapshots that are due."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._to_publish.wait(), min(self._interval, TICK))
            self._to_publish.clear()
            if not self._follower.following:
                continue
            if self._topics_seen != self._follower.lives:  # the topic is another one, which has none of ours
                self._topics_seen = self._follower.lives
                for state in self._counted.values():
                    state.offset, state.changed, state.due = None, True, 0.0
            for partition, state in list(self._counted.items()):
                if state.scanned is None and self._counted.get(partition) is state and self._is_due(partition, state):
                    await self._send(partition, state)

    def _is_due(self, partition: int, state: _Partition) -> bool:
        latest = self._follower.latest
        if state.offset is not None and (latest.version or 0) >= state.offset != latest.offsets.get(partition):
            state.changed = True  # somebody wrote another one: a worker that had the partition, or a stranger
        return state.changed and monotonic() >= state.due

    async def _send(self, partition: int, state: _Partition) -> None:
        rows = state.counts.rows()
        if any(row.min() < 0 for row in rows.values()):
            logger.error("partition %d: a count is below 0, so its bags are counted anew", partition)
            self._count_anew(partition)
            return
        latest = self._follower.latest
        snapshot = snapshot_of(self._labels_version, self._categories, rows)
        state.changed, state.newest = False, max(rows, default=-1)
        if state.offset is None and latest.snapshots.get(partition) == snapshot:
            state.offset = latest.offsets[partition]  # by the worker that had the partition before
            return
        try:
            value = encode_snapshot(snapshot)
            sent = await self._publisher.send_all(self._topic, [(partition_key(partition), value, ())], partition=0)
        except (SnapshotError, DeliveryError) as error:
            state.changed, state.due = True, monotonic() + max(self._interval, RETRY)
            if str(error) != self._told:
                self._told = str(error)
                logger.warning(
                    "the counts of partition %d cannot be published, and its last snapshot stays in force: %s",
                    partition, error,
                )  # fmt: skip
            return
        self._told = ""
        state.offset = sent[0]
        metrics.trend_published.inc()
        rest = len(value) * self._all_partitions * 86_400 / DAILY_BYTES
        state.due = monotonic() + max(self._interval, rest)
