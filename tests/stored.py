"""Reads bags from the closed databases of a profile worker, and from rows."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import rocksdict

from streams.profile.bag import Bag
from streams.profile.databases import is_own, items_in, offset_in, partition_path
from streams.profile.rows import decode_bag, user_of

Rows = Iterable[tuple[bytes, bytes]]


def partitions_on_disk(folder: Path) -> list[int]:
    """The partitions that have a database under `folder`."""
    return sorted(int(path.name.removeprefix("partition-")) for path in folder.glob("partition-*"))


def closed_offset(folder: Path, partition: int) -> int:
    """The changelog offset up to which the database of a partition is complete; -1 for a new one."""
    with _closed(folder, partition) as database:
        return offset_in(database)


def closed_rows(folder: Path, partition: int) -> list[tuple[bytes, bytes]]:
    """All rows of a partition. Raises the errors of RocksDB."""
    with _closed(folder, partition) as database:
        return [(key, value) for key, value in items_in(database) if not is_own(key)]


def rows_on_disk(folder: Path) -> list[tuple[bytes, bytes]]:
    """All rows of all partitions."""
    return [row for partition in partitions_on_disk(folder) for row in closed_rows(folder, partition)]


def by_user(rows: Rows) -> dict[str, list[tuple[bytes, bytes]]]:
    """Group rows by user."""
    users: dict[str, list[tuple[bytes, bytes]]] = {}
    for key, value in rows:
        users.setdefault(user_of(key), []).append((key, value))
    return users


def bags_of(rows: Rows) -> dict[str, Bag]:
    """Decode the bag of each user."""
    return {user: decode_bag(found) for user, found in by_user(rows).items()}


@contextmanager
def _closed(folder: Path, partition: int) -> Generator[rocksdict.Rdict]:
    options, access = rocksdict.Options(raw_mode=True), rocksdict.AccessType.read_only()
    database = rocksdict.Rdict(str(partition_path(folder, partition)), options=options, access_type=access)
    try:
        yield database
    finally:
        database.close()
