"""Compares two changelogs by their newest rows, whatever the order and the partitions in which they are read.

It keeps a digest of each row of both in a RocksDB that is removed at the end, so memory does not grow with the bags. The number of
rows that differ is kept up to date, so the answer takes no second pass.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path

import rocksdict

from streams.profile.databases import items_in
from streams.profile.scratch import reported, scratch_database
from streams.settings import Settings

DIGEST = 8  # bytes: one of a billion rows that differ is missed with a probability of 5e-11
NOTHING = bytes(DIGEST)  # there is no such row


class Side(IntEnum):
    """Of the two changelogs."""

    source = 0
    target = 1


Row = tuple[bytes, bytes | None]


def digest(value: bytes | None) -> bytes:
    """What stands for the value of a row."""
    return NOTHING if value is None else blake2b(value, digest_size=DIGEST).digest()


class Ledger:
    """The newest rows of two changelogs.

    Attributes:
        rows: number of rows of each.
        differing: number of keys whose rows are not the same.
    """

    def __init__(self, database: rocksdict.Rdict, folder: Path) -> None:
        """Nothing was read yet. `folder`: of the database, for messages."""
        self.rows = [0, 0]
        self.differing = 0
        self._database = database
        self._folder = folder

    def note(self, side: Side, rows: Iterable[Row]) -> None:
        """These rows are the newest ones of one changelog; None for a row that was deleted. Raises StateError."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        with reported(self._folder):
            for key, value in dict(rows).items():
                before: bytes = self._database.get(key) or 2 * NOTHING
                digests = [before[:DIGEST], before[DIGEST:]]
                self._count(digests, -1)
                digests[side] = digest(value)
                self._count(digests, 1)
                after = b"".join(digests)
                if after == 2 * NOTHING:
                    batch.delete(key)
                elif after != before:
                    batch.put(key, after)
            if not batch.is_empty():
                self._database.write(batch)

    def _count(self, digests: list[bytes], sign: int) -> None:
        self.differing += sign * (digests[0] != digests[1])
        for side in Side:
            self.rows[side] += sign * (digests[side] != NOTHING)

    def surplus(self) -> Iterator[bytes]:
        """Keys of rows that only the target has. Raises StateError."""
        return (key for key, digests in self._items() if digests.startswith(NOTHING))

    def differences(self) -> Iterator[bytes]:
        """Keys of rows that differ. Raises StateError."""
        return (key for key, digests in self._items() if digests[:DIGEST] != digests[DIGEST:])

    def _items(self) -> Iterator[tuple[bytes, bytes]]:
        with reported(self._folder):
            yield from items_in(self._database)


@contextmanager
def open_ledger(settings: Settings) -> Generator[Ledger]:
    """An empty ledger in the data folder. It is removed at the end, or by the next run after a kill.

    Raises:
        DataFolderError: another process runs the command, or the folder cannot be written.
        StateError: the disk does not permit it.
    """
    advice = "`tastestream topics resize` is running there: wait until it has ended, or stop it"
    with scratch_database(settings.state_dir, "resize", advice) as (database, folder):
        yield Ledger(database, folder)
