"""The cache on disk: it forgets what is old, belongs to one embedder, is bounded, and what is damaged in it is dropped."""

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
LENGTH = 1032
EMBEDDING = np.random.default_rng(1).bytes(LENGTH)  # does not compress
MANY = 20_000  # embeddings: some files of them
MIB = 1024**2


@contextmanager
def cache(
    folder: Path, *, embedder: str = "v1", length: int = LENGTH, max_bytes: int = 64 * MIB, max_age: float = 60
) -> Generator[DiskCache]:
    opened = DiskCache(folder, embedder=embedder, length=length, max_bytes=max_bytes, max_age=max_age)
    try:
        yield opened
    finally:
        opened.close()


def test_what_was_put_is_found_also_after_a_restart(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW) == EMBEDDING
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) == EMBEDDING
        assert disk.get(URL + "?", now=NOW) is None


def test_an_entry_over_its_age_is_not_used(tmp_path: Path) -> None:
    newer = EMBEDDING[::-1]
    with cache(tmp_path / "c", max_age=60) as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW + 60) == EMBEDDING
        assert disk.get(URL, now=NOW + 60.1) is None
        disk.put(URL, newer, now=NOW + 61)
        assert disk.get(URL, now=NOW + 100) == newer


def test_another_embedder_does_not_see_it(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder="v1") as disk:
        disk.put(URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder="v2") as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING[::-1], now=NOW)
    with cache(tmp_path / "c", embedder="v1") as disk:
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_embedder_whose_name_begins_alike_does_not_see_it_either(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder="v1") as disk:
        disk.put("1" + URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder="v11") as disk:
        assert disk.get(URL, now=NOW) is None


@pytest.mark.parametrize("length", [0, 1, LENGTH - 1, LENGTH + 1, 2 * LENGTH])
def test_an_entry_of_another_length_is_none(tmp_path: Path, length: int) -> None:
    with cache(tmp_path / "c", length=length) as disk:
        disk.put(URL, bytes(length), now=NOW)
    with cache(tmp_path / "c", length=LENGTH) as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_entry_without_even_a_time_is_none(tmp_path: Path) -> None:
    with cache(tmp_path / "c"):
        pass
    database = rocksdict.Rdict(str(tmp_path / "c"), options=rocksdict.Options(raw_mode=True))
    database[b"v1\x00" + URL.encode()] = b"\x00"
    database.close()
    with cache(tmp_path / "c") as disk:
        assert disk.get(URL, now=NOW) is None


def test_it_remembers_that_it_could_not_be_written(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.unwritten == ""
    disk.put(URL, EMBEDDING, now=NOW)
    assert "closed" in disk.unwritten


# Its bound


def size(folder: Path) -> int:
    """Bytes of everything under a folder; files may go while we look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_the_disk_is_bounded_all_the_time_and_the_oldest_go_first(tmp_path: Path) -> None:
    limit, row = 32 * MIB, np.random.default_rng(1).bytes(64 * 1024)
    peak = 0
    with cache(tmp_path / "c", length=len(row), max_bytes=limit) as disk:
        for number in range(4000):  # 250 MiB
            disk.put(f"{number}", row, now=NOW)
            if number % 50 == 0:
                peak = max(peak, size(tmp_path / "c"))
        assert disk.get("0", now=NOW) is None
        assert disk.get("3999", now=NOW) == row
        kept = sum(disk.get(f"{number}", now=NOW) is not None for number in range(4000))
    assert limit / 2 < kept * len(row)
    assert peak < 2 * limit  # the newest wait twice, in memory and in the log, until they are a file
    assert size(tmp_path / "c") < 1.5 * limit


def test_it_says_when_the_oldest_have_to_go(tmp_path: Path) -> None:
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


def works(disk: DiskCache) -> bool:
    for number in range(0, MANY, 100):
        disk.put(f"{URL}?{number}", EMBEDDING, now=NOW)
    return all(disk.get(f"{URL}?{number}", now=NOW) == EMBEDDING for number in range(0, MANY, 100))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with some tables."""
    folder = tmp_path_factory.mktemp("filled") / "c"
    with cache(folder) as disk:
        fill(disk)
    assert len(list(folder.glob("*.sst"))) >= 2
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(filled, tmp_path / "c")
    return tmp_path / "c"


def test_a_damaged_block_costs_its_entries_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(byte ^ 0xFF for byte in data[middle : middle + 100])
    table.write_bytes(data)
    with cache(folder) as disk:
        assert MANY - 20 < found(disk) < MANY
        assert "checksum mismatch" in caplog.text
        assert works(disk)


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 100)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60] + bytes(60))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("CURRENT", garbage),
        ("CURRENT", cut),
        ("MANIFEST-*", garbage),
        ("*.sst", garbage),
        ("*.sst", cut),
        ("*.sst", without_its_end),
        ("*.sst", Path.unlink),
    ],
)
def test_a_folder_that_cannot_be_opened_is_dropped(
    folder: Path, name: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    damage(next(folder.glob(name)))
    with cache(folder) as disk:
        assert f"the cache in {folder} cannot be read and is dropped" in caplog.text
        assert found(disk) == 0
        assert works(disk)
    with cache(folder) as disk:
        assert disk.get(f"{URL}?0", now=NOW) == EMBEDDING


def test_a_manifest_that_ends_early_costs_what_it_does_not_name(folder: Path) -> None:
    cut(next(folder.glob("MANIFEST-*")))
    with cache(folder) as disk:
        assert found(disk) < MANY
        assert works(disk)


@pytest.mark.parametrize("name", ["rocksdict-config.json", "OPTIONS-*", "IDENTITY", "LOG"])
def test_damage_beside_the_data_costs_nothing(folder: Path, name: str) -> None:
    garbage(next(folder.glob(name)))
    with cache(folder) as disk:
        assert found(disk) == MANY
        assert works(disk)


@pytest.mark.parametrize("damage", [garbage, cut, without_its_end])
def test_what_a_kill_left_in_a_damaged_log_may_go_and_nothing_else(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    with cache(tmp_path / "c") as disk:
        fill(disk, 1000)
    killed = tmp_path / "killed"
    with cache(tmp_path / "c") as disk:
        for number in range(1000, 2000):
            disk.put(f"{URL}?{number}", EMBEDDING, now=NOW)
        shutil.copytree(tmp_path / "c", killed)  # as a kill would leave it
    [log] = [path for path in killed.glob("*.log") if path.stat().st_size]
    damage(log)
    with cache(killed) as disk:
        assert 1000 <= found(disk, 2000) < 2000
        assert works(disk)


@pytest.mark.parametrize(
    "name", ["999999.sst", "999999.log", "000001.log", "MANIFEST-999999", "notes.txt", "pictures/"]
)
def test_foreign_files_in_its_folder_change_nothing(folder: Path, name: str) -> None:
    if name.endswith("/"):
        (folder / name).mkdir()
    garbage(folder / name / "shoe.jpg" if name.endswith("/") else folder / name)
    with cache(folder) as disk:
        assert found(disk) == MANY
        assert works(disk)


def test_a_folder_of_foreign_files_becomes_a_cache(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    garbage(tmp_path / "c" / "notes.txt")
    with cache(tmp_path / "c") as disk:
        assert works(disk)


def test_a_file_in_its_place_goes(tmp_path: Path) -> None:
    garbage(tmp_path / "c")
    with cache(tmp_path / "c") as disk:
        assert works(disk)


@pytest.mark.parametrize("families", [False, True])
@pytest.mark.parametrize("raw", [False, True])
def test_a_database_of_somebody_else_is_no_cache_but_no_obstacle(tmp_path: Path, raw: bool, families: bool) -> None:
    options = rocksdict.Options(raw_mode=raw)
    options.create_if_missing(True)
    database = rocksdict.Rdict(str(tmp_path / "c"), options=options)
    if families:
        database.create_column_family("theirs", rocksdict.Options(raw_mode=raw)).close()
    for number in range(1000):
        database[b"v1\x00%d" % number] = EMBEDDING[: number % 100]
    database.close()
    with cache(tmp_path / "c") as disk:
        assert all(disk.get(f"{number}", now=NOW) is None for number in range(1000))
        assert works(disk)


def test_a_link_to_another_disk_stays_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    garbage(folder / "CURRENT")
    with cache(tmp_path / "link") as disk:
        assert works(disk)
    assert (tmp_path / "link").is_symlink()
    assert list(folder.glob("MANIFEST-*"))


def test_a_place_where_none_can_be_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(StateError, match=f"the cache in {tmp_path}/link/c cannot be made: ") as refused:
        DiskCache(tmp_path / "link" / "c", embedder="v1", length=LENGTH, max_bytes=MIB, max_age=60)
    assert "\n" not in str(refused.value)
