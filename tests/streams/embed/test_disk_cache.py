"""The cache on disk is bounded in bytes and age, belongs to one embedder version, and drops what is damaged."""

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rocksdict

from streams.embed.disk_cache import DiskCache
from streams.exceptions import StateError

NOW = 1_400_000_000.0
URL = "https://shop.example/shoe.jpg"
LENGTH = 8 * 1024  # bytes; longer than a real embedding, so that few entries fill a file
EMBEDDING = np.random.default_rng(1).bytes(LENGTH)  # does not compress
MANY = 3_500  # entries; they fill three write buffers, so that at least two are files
MIB = 1024**2


@contextmanager
def cache(
    folder: Path, *, embedder_version: str = "v1", length: int = LENGTH, max_bytes: int = 64 * MIB, max_age: float = 60
) -> Generator[DiskCache]:
    opened = DiskCache(folder, embedder_version=embedder_version, length=length, max_bytes=max_bytes, max_age=max_age)
    try:
        yield opened
    finally:
        opened.close()


def test_an_entry_is_found_also_after_a_restart(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW) == EMBEDDING
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) == EMBEDDING
        assert disk.get(URL + "?", now=NOW) is None


def test_an_entry_over_the_maximum_age_is_not_used(tmp_path: Path) -> None:
    newer = EMBEDDING[::-1]
    with cache(tmp_path / "c", max_age=60) as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW + 60) == EMBEDDING
        assert disk.get(URL, now=NOW + 60.1) is None
        disk.put(URL, newer, now=NOW + 61)
        assert disk.get(URL, now=NOW + 100) == newer


def test_another_embedder_version_does_not_see_an_entry(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder_version="v1") as disk:
        disk.put(URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder_version="v2") as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING[::-1], now=NOW)
    with cache(tmp_path / "c", embedder_version="v1") as disk:
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_embedder_version_with_the_same_prefix_does_not_see_an_entry(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder_version="v1") as disk:
        disk.put("1" + URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder_version="v11") as disk:
        assert disk.get(URL, now=NOW) is None


@pytest.mark.parametrize("length", [0, 1, LENGTH - 1, LENGTH + 1, 2 * LENGTH])
def test_an_entry_of_another_length_is_ignored(tmp_path: Path, length: int) -> None:
    with cache(tmp_path / "c", length=length) as disk:
        disk.put(URL, bytes(length), now=NOW)
    with cache(tmp_path / "c", length=LENGTH) as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_entry_without_a_time_is_ignored(tmp_path: Path) -> None:
    with cache(tmp_path / "c"):
        pass
    database = rocksdict.Rdict(str(tmp_path / "c"), options=rocksdict.Options(raw_mode=True))
    database[b"v1\x00" + URL.encode()] = b"\x00"
    database.close()
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) is None


def test_a_failed_write_is_remembered(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.write_error == ""
    disk.put(URL, EMBEDDING, now=NOW)
    assert "closed" in disk.write_error


# Bounds


def size(folder: Path) -> int:
    """Bytes of all files under a folder. A file may be deleted meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_the_disk_stays_bounded_and_the_oldest_entries_are_dropped_first(tmp_path: Path) -> None:
    limit, row = 32 * MIB, np.random.default_rng(1).bytes(64 * 1024)
    peak = 0
    with cache(tmp_path / "c", length=len(row), max_bytes=limit) as disk:
        for number in range(1600):  # 100 MiB, three times the limit
            disk.put(f"{number}", row, now=NOW)
            if number % 50 == 0:
                peak = max(peak, size(tmp_path / "c"))
        assert disk.get("0", now=NOW) is None
        assert disk.get("1599", now=NOW) == row
        kept = sum(disk.get(f"{number}", now=NOW) is not None for number in range(1600))
    assert limit / 2 < kept * len(row)
    assert peak < 2 * limit  # the newest are in memory and in the log until they are written to a file
    assert size(tmp_path / "c") < 1.5 * limit


def test_the_cache_reports_that_it_is_full(tmp_path: Path) -> None:
    with cache(tmp_path / "c", max_bytes=16 * MIB) as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert not disk.full
        fill(disk)
        assert disk.full


# Damage


def fill(disk: DiskCache, count: int = MANY) -> None:
    rows = np.random.default_rng(2)
    for number in range(count):
        disk.put(f"{URL}?{number}", rows.bytes(LENGTH), now=NOW)


def found(disk: DiskCache, count: int = MANY) -> int:
    return sum(disk.get(f"{URL}?{number}", now=NOW) is not None for number in range(count))


def is_usable(disk: DiskCache) -> bool:
    for number in range(0, MANY, 10):
        disk.put(f"{URL}?{number}", EMBEDDING, now=NOW)
    return all(disk.get(f"{URL}?{number}", now=NOW) == EMBEDDING for number in range(0, MANY, 10))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with several tables."""
    folder = tmp_path_factory.mktemp("filled") / "c"
    with cache(folder) as disk:
        fill(disk)
    assert len(list(folder.glob("*.sst"))) >= 2
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of the filled cache, to be damaged."""
    shutil.copytree(filled, tmp_path / "c")
    return tmp_path / "c"


def test_a_damaged_block_loses_only_its_entries(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(byte ^ 0xFF for byte in data[middle : middle + 100])
    table.write_bytes(data)
    with cache(folder) as disk:
        assert MANY - 20 < found(disk) < MANY
        assert "checksum mismatch" in caplog.text
        assert is_usable(disk)


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 100)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60] + bytes(60))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("CURRENT", garbage),
        ("CURRENT", cut),
        ("MANIFEST-*", garbage),
        ("*.sst", garbage),
        ("*.sst", cut),
        ("*.sst", truncated_footer),
        ("*.sst", Path.unlink),
    ],
)
def test_a_folder_that_cannot_be_opened_is_dropped(
    folder: Path, name: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    damage(next(folder.glob(name)))
    with cache(folder) as disk:
        assert f"dropped the embedding cache in {folder}, which cannot be read" in caplog.text
        assert found(disk) == 0
        assert is_usable(disk)
    with cache(folder) as disk:
        assert disk.get(f"{URL}?0", now=NOW) == EMBEDDING


def test_a_truncated_manifest_loses_the_files_it_does_not_list(folder: Path) -> None:
    cut(next(folder.glob("MANIFEST-*")))
    with cache(folder) as disk:
        assert found(disk) < MANY
        assert is_usable(disk)


@pytest.mark.parametrize("name", ["rocksdict-config.json", "OPTIONS-*", "IDENTITY", "LOG"])
def test_damage_beside_the_data_loses_nothing(folder: Path, name: str) -> None:
    garbage(next(folder.glob(name)))
    with cache(folder) as disk:
        assert found(disk) == MANY
        assert is_usable(disk)


@pytest.mark.parametrize("damage", [garbage, cut, truncated_footer])
def test_a_damaged_log_after_a_kill_loses_only_entries_of_that_log(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    with cache(tmp_path / "c") as disk:
        fill(disk, 100)
    killed = tmp_path / "killed"
    with cache(tmp_path / "c") as disk:
        for number in range(100, 200):
            disk.put(f"{URL}?{number}", EMBEDDING, now=NOW)
        shutil.copytree(tmp_path / "c", killed)  # the state that a kill leaves
    [log] = [path for path in killed.glob("*.log") if path.stat().st_size]
    damage(log)
    with cache(killed) as disk:
        assert 100 <= found(disk, 200) < 200
        assert is_usable(disk)


@pytest.mark.parametrize(
    "name", ["999999.sst", "999999.log", "000001.log", "MANIFEST-999999", "notes.txt", "pictures/"]
)
def test_foreign_files_in_the_folder_change_nothing(folder: Path, name: str) -> None:
    if name.endswith("/"):
        (folder / name).mkdir()
    garbage(folder / name / "shoe.jpg" if name.endswith("/") else folder / name)
    with cache(folder) as disk:
        assert found(disk) == MANY
        assert is_usable(disk)


def test_a_folder_of_foreign_files_becomes_a_cache(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    garbage(tmp_path / "c" / "notes.txt")
    with cache(tmp_path / "c") as disk:
        assert is_usable(disk)


def test_a_file_in_place_of_the_folder_is_replaced(tmp_path: Path) -> None:
    garbage(tmp_path / "c")
    with cache(tmp_path / "c") as disk:
        assert is_usable(disk)


@pytest.mark.parametrize("families", [False, True])
@pytest.mark.parametrize("raw", [False, True])
def test_a_foreign_database_is_not_read_and_not_in_the_way(tmp_path: Path, raw: bool, families: bool) -> None:
    options = rocksdict.Options(raw_mode=raw)
    options.create_if_missing(True)
    database = rocksdict.Rdict(str(tmp_path / "c"), options=options)
    if families:
        database.create_column_family("foreign", rocksdict.Options(raw_mode=raw)).close()
    for number in range(1000):
        database[b"v1\x00%d" % number] = EMBEDDING[: number % 100]
    database.close()
    with cache(tmp_path / "c") as disk:
        assert all(disk.get(f"{number}", now=NOW) is None for number in range(1000))
        assert is_usable(disk)


def test_a_link_to_another_disk_stays_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    garbage(folder / "CURRENT")
    with cache(tmp_path / "link") as disk:
        assert is_usable(disk)
    assert (tmp_path / "link").is_symlink()
    assert list(folder.glob("MANIFEST-*"))


def test_a_cache_that_cannot_be_created_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(StateError, match=f"cannot create the embedding cache in {tmp_path}/link/c: ") as refused:
        DiskCache(tmp_path / "link" / "c", embedder_version="v1", length=LENGTH, max_bytes=MIB, max_age=60)
    assert "\n" not in str(refused.value)
