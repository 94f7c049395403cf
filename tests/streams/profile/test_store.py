"""The databases of the bags: damage is reported and the database dropped; it is never read as if intact."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.exceptions import StateError
from streams.profile.databases import partition_path
from streams.profile.rows import user_prefix
from streams.profile.store import BagStore
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from tests.stored import closed_rows

USERS = [f"user-{number}" for number in range(200)]
ROWS = {
    user_prefix(user) + b"\x01item-%d" % item: random.Random(7).randbytes(1000) for user in USERS for item in range(10)
}


@pytest.fixture
def store(tmp_path: Path) -> BagStore:
    return opened(tmp_path)


def opened(folder: Path) -> BagStore:
    """The store of a worker without a broker, with partition 0 open."""
    store = ProfileWorker(Settings.model_construct(), Bundles(Bundle.load()), folder, partitions=1).table.data
    store.open(0)
    return store


async def closed(store: BagStore) -> None:
    await store.on_stop()


def damage(folder: Path) -> None:
    """Flip some bytes in the middle of the largest table."""
    table = max(partition_path(folder / "bags", 0).glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 400):
        content[place] ^= 0xFF
    table.write_bytes(content)


async def test_written_rows_survive_a_restart(store: BagStore, tmp_path: Path) -> None:
    store.write(0, dict(ROWS), 41)
    await closed(store)

    again = opened(tmp_path)
    assert again.last_offset(0) == 41
    for user in USERS[:5]:
        prefix = user_prefix(user)
        assert again.scan(0, prefix) == sorted((key, row) for key, row in ROWS.items() if key.startswith(prefix))


def scan_all(store: BagStore) -> None:
    for user in USERS:
        store.scan(0, user_prefix(user))


def get_all(store: BagStore) -> None:
    for key in ROWS:
        store.row(0, key)


@pytest.mark.parametrize("read", [scan_all, get_all])
async def test_a_damaged_table_raises_and_is_dropped(
    store: BagStore, tmp_path: Path, read: Callable[[BagStore], None]
) -> None:
    store.write(0, dict(ROWS), 41)
    await closed(store)
    opened_once = opened(tmp_path)  # RocksDB makes a table of its log at a start
    await closed(opened_once)
    damage(tmp_path)

    again = opened(tmp_path)
    with pytest.raises(StateError, match=r"partition-0 cannot be read or written: .*checksum mismatch"):
        read(again)
    assert opened(tmp_path).last_offset(0) == -1, "the next start begins with an empty one"


async def test_reading_a_damaged_closed_database_raises(store: BagStore, tmp_path: Path) -> None:
    store.write(0, dict(ROWS), 41)
    await closed(store)
    await closed(opened(tmp_path))
    assert closed_rows(tmp_path / "bags", 0) == sorted(ROWS.items())
    damage(tmp_path)
    with pytest.raises(Exception, match="checksum mismatch"):
        closed_rows(tmp_path / "bags", 0)


def test_a_partition_that_is_not_open_raises_key_error(store: BagStore) -> None:
    with pytest.raises(KeyError):
        store.scan(3, b"")
