"""The bags as a table of Faust: the changelog topic in front of the store.

Faust assigns the partitions and recovers them from the changelog. Writing is ours, because Faust would write to disk first,
log a failed changelog record at most, and read the partition from a context variable: here a change is sent, awaited,
and only then written to disk.
"""

import asyncio
from pathlib import Path
from typing import Any

from faust import App
from faust.tables import Table

from streams.delivery import Publisher
from streams.exceptions import DeliveryError
from streams.profile.rows import Changes
from streams.profile.store import BagStore, RocksDBMemory
from streams.topics import BAGS_TABLE


class BagTable(Table[bytes, bytes]):
    """A table whose rows are read by user and written by partition."""

    data: BagStore  # pyright: ignore[reportIncompatibleVariableOverride] -- it is what _new_store makes

    def __init__(self, app: App, *, partitions: int, folder: Path, memory: RocksDBMemory, **kwargs: Any) -> None:
        self._folder = folder
        self._memory = memory
        super().__init__(
            app,
            name=BAGS_TABLE,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
            **kwargs,
        )

    def _new_store(self) -> BagStore:
        return BagStore(
            "rocksdb:",
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
            folder=self._folder,
            memory=self._memory,
        )

    async def write(self, publisher: Publisher, partition: int, rows: Changes) -> None:
        """Send the rows to the changelog, wait until the broker has them, then write them to disk.

        Raises DeliveryError, with the disk untouched, when the broker does not take them, or when records of somebody else
        stand between the last ones and these: then the rows were folded from a state that is not the newest, and the
        worker has to start again from the changelog.
        """
        topic = self.changelog_topic_name
        sent = [await publisher.send(topic, key, value, partition=partition) for key, value in rows.items()]
        offsets = await asyncio.gather(*sent)
        last = self.data.last_offset(partition)
        if last >= 0 and min(offsets) != last + 1:
            raise DeliveryError(
                f"another worker writes to partition {partition} of {topic}: offset {min(offsets)} follows {last} here"
            )
        self.data.write(partition, rows, max(offsets))
