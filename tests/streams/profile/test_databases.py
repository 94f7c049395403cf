"""The databases of the bags when their folder goes away."""

import logging
import shutil
from pathlib import Path

import pytest

from streams.profile.databases import BagDatabases, RocksDBMemory, remove_other_generations


def test_a_database_whose_folder_was_deleted_is_closed_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[int] = []
    databases = BagDatabases(tmp_path / "bags", RocksDBMemory(8 * 1024**2), closed.append)
    databases.open(3)
    databases.write(3, {b"\x00\x03ada": b"row"}, 7)
    shutil.rmtree(tmp_path / "bags")
    with caplog.at_level(logging.WARNING):
        databases.close(3)
    [record] = caplog.records
    assert record.getMessage().startswith("the bags of partition 3 were not closed cleanly: IO error: No such file")
    assert record.exc_info is None
    assert closed == [3]
    assert databases.partitions == frozenset()


def test_a_database_that_is_opened_again_uses_the_memory_of_its_process(tmp_path: Path) -> None:
    for size in (8 * 1024**2, 24 * 1024**2):  # also if the setting has changed
        database = RocksDBMemory(size).open(tmp_path / "bags")
        assert database.property_int_value("rocksdb.block-cache-capacity") == size
        database.close()


def test_the_bags_of_generations_that_are_gone_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("bags", "bags-g2", "bags-g3", "faust"):
        (tmp_path / name / "partition-0").mkdir(parents=True)
    (tmp_path / "LOCK").touch()
    remove_other_generations(tmp_path, {2, 3})
    assert {path.name for path in tmp_path.iterdir()} == {"bags-g2", "bags-g3", "faust", "LOCK"}
    remove_other_generations(tmp_path, {1})
    assert {path.name for path in tmp_path.iterdir()} == {"faust", "LOCK"}
