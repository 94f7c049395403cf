"""The bags of partitions that moved to other workers leave the disk."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.profile.databases import BagDatabases, RocksDBMemory, partition_path, partitions_on_disk
from streams.profile.left import delete_aside, delete_left, set_aside
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from tests.kafka.system import wait_until

DAY = 86_400


@pytest.fixture
def databases(tmp_path: Path) -> BagDatabases:
    found = BagDatabases(tmp_path, RocksDBMemory(8 * 1024**2), lambda _: None)
    for partition in range(4):
        found.open(partition)
    return found


def closed(databases: BagDatabases, folder: Path, partition: int, ago: float) -> None:
    databases.close(partition)
    then = time.time() - ago
    os.utime(partition_path(folder, partition), (then, then))


def test_only_those_that_were_closed_long_ago_are_deleted(tmp_path: Path, databases: BagDatabases) -> None:
    closed(databases, tmp_path, 1, 2 * DAY)
    closed(databases, tmp_path, 2, DAY / 2)
    os.utime(partition_path(tmp_path, 3), (0, 0))  # open, and not written to for years
    assert set_aside(tmp_path, databases.partitions, time.time() - DAY) == [1]
    assert databases.open(1) == -1, "a partition that returns meanwhile has a new database"
    delete_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"partition-{number}" for number in range(4)]


def test_closing_counts_as_use(tmp_path: Path, databases: BagDatabases) -> None:
    os.utime(partition_path(tmp_path, 1), (0, 0))
    databases.close(1)
    assert set_aside(tmp_path, databases.partitions, time.time() - DAY) == []


async def test_it_looks_again_and_again_and_deletes_what_an_earlier_run_left(
    tmp_path: Path, databases: BagDatabases
) -> None:
    def on_disk() -> tuple[int | str, ...]:
        return *partitions_on_disk(tmp_path), *(path.name for path in tmp_path.glob("left-*"))

    (tmp_path / "left-7").mkdir()
    task = asyncio.create_task(delete_left(tmp_path, lambda: databases.partitions, away=DAY, sweep=0.01))
    await asyncio.to_thread(wait_until, lambda: on_disk() == (0, 1, 2, 3), 30)
    closed(databases, tmp_path, 1, 2 * DAY)
    await asyncio.to_thread(wait_until, lambda: on_disk() == (0, 2, 3), 30)
    assert not task.done()
    task.cancel()


def test_a_worker_keeps_what_its_table_and_its_standby_have_open(tmp_path: Path) -> None:
    worker = ProfileWorker(Settings.model_construct(standby=True), Bundles(Bundle.load()), tmp_path, partitions=4)
    worker.table.data.open(2)
    assert worker.open_partitions == {2}
    assert worker.table.standby is not None
    worker.table.standby._databases.open(1)
    assert worker.open_partitions == {1, 2}
