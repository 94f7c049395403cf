"""Copies the rows of one changelog to another, each into the partition of its user, and reads both back to compare them.

A row goes over as it is, and rows of one key in their order, so the newest row of each key ends up the newest. Erased users have
their floor among the rows, and tombstones go over too. What is copied twice changes nothing, because recovery merges rows.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiokafka import TopicPartition

from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.bulk_sending import BulkSender
from streams.kafka.partitioning import partition_of
from streams.profile.quarantine import usable_rows
from streams.profile.rows import prefix_of
from streams.resize.ledger import Ledger, Row, Side
from streams.settings import Settings

CHECKPOINT = 5.0  # seconds between two notes of how far the copy is
COPIED = "rows"

Note = Callable[[dict[int, int]], Awaitable[object]]
"""Is told the offsets, by partition, up to which the broker has the copies."""


@dataclass(frozen=True)
class Changelog:
    """A changelog of the bags."""

    settings: Settings  # with its names
    partitions: int  # over which the bags are spread

    @property
    def topic(self) -> str:
        return self.settings.bags_changelog


def at_home(rows: Iterable[Row], partition: int, partitions: int) -> list[Row]:
    """The rows whose users belong to a partition. No worker reads the others: somebody else wrote them. Pure."""
    return [row for row in rows if home_of(row[0], partitions) == partition]


def home_of(key: bytes, partitions: int) -> int:
    """The partition of the row with a key. Pure."""
    return partition_of(prefix_of(key)[2:], partitions)


class Mover:
    """Copies and compares, as far as the changelogs have grown."""

    def __init__(
        self, source: Changelog, target: Changelog, ledger: Ledger, sender: BulkSender, copied: Mapping[int, int]
    ) -> None:
        """Nothing was read yet.

        Args:
            source: where the rows are.
            target: where they go.
            ledger: compares them. It is empty.
            sender: sends to the target.
            copied: offsets of the source up to which the target has the rows, by partition.
        """
        self.copied = dict(copied)
        self._source, self._target = source, target
        self._ledger = ledger
        self._sender = sender
        self._read: dict[TopicPartition, int] | None = None  # offsets of the source; None: the start
        self._checked: dict[TopicPartition, int] | None = None  # the same of the target

    async def catch_up(self, note: Note) -> int:
        """Copy what the source has now and the target lacks, then read the target to its end.

        Returns:
            The number of records of the source that were read.

        Raises:
            TastestreamError: a topic, the broker or the disk does not permit it.
        """
        count, due = 0, monotonic() + CHECKPOINT
        async with _reader(self._source) as topic:
            async for partition, records in topic.everything(self._read):
                await self._copy(partition, records)
                count += len(records)
                if monotonic() >= due:
                    await self._noted(note)
                    due = monotonic() + CHECKPOINT
            self._read = dict(topic.ends)
        self.copied |= {tp.partition: end for tp, end in self._read.items() if end > self.copied.get(tp.partition, 0)}
        await self._noted(note)
        async with _reader(self._target) as topic:
            async for partition, records in topic.everything(self._checked):
                rows = at_home(usable_rows(partition, records), partition, self._target.partitions)
                self._ledger.note(Side.target, rows)
            self._checked = dict(topic.ends)
        return count

    @property
    def ends(self) -> dict[int, int]:
        """Offsets of the target up to which it was compared, by partition."""
        return {tp.partition: end for tp, end in (self._checked or {}).items()}

    async def copy_again(self, note: Note) -> None:
        """Copy everything from the start, and delete what only the target has. Raises as `catch_up` does."""
        for key in list(self._ledger.surplus()):
            await self._send(key, None)
        self.copied, self._read = {}, None
        await self.catch_up(note)

    async def _copy(self, partition: int, records: list[Any]) -> None:
        begin = self.copied.get(partition, 0)
        old, new = (
            at_home(usable_rows(partition, some), partition, self._source.partitions)
            for some in (
                [one for one in records if one.offset < begin],
                [one for one in records if one.offset >= begin],
            )
        )
        self._ledger.note(Side.source, old + new)
        for key, value in new:
            await self._send(key, value)
        if records:
            self.copied[partition] = max(begin, records[-1].offset + 1)

    async def _send(self, key: bytes, value: bytes | None) -> None:
        await self._sender.send_record(key, value, home_of(key, self._target.partitions), COPIED)

    async def _noted(self, note: Note) -> None:
        await self._sender.flush()
        await note(dict(self.copied))


def _reader(changelog: Changelog) -> BoundedTopicReader:
    # As the recovery of the bags reads: our rows belong to no transaction.
    return BoundedTopicReader(
        changelog.settings, changelog.topic, "TASTESTREAM_NAMESPACE", isolation="read_uncommitted"
    )
