"""The cache on disk is bounded in bytes and age, tells versions of features apart, and drops what is damaged."""

import resource
import shutil
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rocksdict

from streams.embed.disk_cache import DiskCache
from streams.exceptions import StateError
from streams.features.records import Features, encode_features, features_key

NOW = 1_400_000_000.0
URL = "https://shop.example/shoe.jpg"
LENGTH = 8 * 1024  # bytes; longer than a real row, so that few entries fill a file
ROW = np.random.default_rng(1).bytes(LENGTH)  # does not compress
MANY = 3_500  # entries; they fill three write buffers, so that at least two are files
MIB = 1024**2


class OneVersion(DiskCache):
    """A cache whose entries are all of one version."""

    def __init__(self, folder: Path, version: str, length: int, **limits: Any) -> None:
        super().__init__(folder, row_bytes={version: length}, **limits)
        self.version = version

    def row(self, url: str, *, now: float) -> bytes | None:
        return self.get(self.version, url, now=now)

    def keep(self, url: str, row: bytes, *, now: float) -> None:
        self.put(self.version, url, row, now=now)


@contextmanager
def cache(
    folder: Path, *, version: str = "v1", length: int = LENGTH, max_bytes: int = 64 * MIB, max_age: float = 60
) -> Generator[OneVersion]:
    opened = OneVersion(folder, version, length, max_bytes=max_bytes, max_age=max_age)
    try:
        yield opened
    finally:
        opened.close()


def test_an_entry_is_found_also_after_a_restart(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        assert disk.row(URL, now=NOW) is None
        disk.keep(URL, ROW, now=NOW)
        assert disk.row(URL, now=NOW) == ROW
    with cache(tmp_path / "c") as disk:
        assert disk.row(URL, now=NOW) == ROW
        assert disk.row(URL + "?", now=NOW) is None


def test_an_entry_over_the_maximum_age_is_not_used(tmp_path: Path) -> None:
    newer = ROW[::-1]
    with cache(tmp_path / "c", max_age=60) as disk:
        disk.keep(URL, ROW, now=NOW)
        assert disk.row(URL, now=NOW + 60) == ROW
        assert disk.row(URL, now=NOW + 60.1) is None
        disk.keep(URL, newer, now=NOW + 61)
        assert disk.row(URL, now=NOW + 100) == newer


def test_another_version_does_not_see_an_entry(tmp_path: Path) -> None:
    with cache(tmp_path / "c", version="v1") as disk:
        disk.keep(URL, ROW, now=NOW)
    with cache(tmp_path / "c", version="v2") as disk:
        assert disk.row(URL, now=NOW) is None
        disk.keep(URL, ROW[::-1], now=NOW)
    with cache(tmp_path / "c", version="v1") as disk:
        assert disk.row(URL, now=NOW) == ROW


def test_a_version_with_the_same_prefix_does_not_see_an_entry(tmp_path: Path) -> None:
    with cache(tmp_path / "c", version="v1") as disk:
        disk.keep("1" + URL, ROW, now=NOW)
    with cache(tmp_path / "c", version="v11") as disk:
        assert disk.row(URL, now=NOW) is None


@pytest.mark.parametrize("length", [0, 1, LENGTH - 1, LENGTH + 1, 2 * LENGTH])
def test_an_entry_of_another_length_is_ignored(tmp_path: Path, length: int) -> None:
    with cache(tmp_path / "c", length=length) as disk:
        disk.keep(URL, bytes(length), now=NOW)
    with cache(tmp_path / "c", length=LENGTH) as disk:
        assert disk.row(URL, now=NOW) is None
        disk.keep(URL, ROW, now=NOW)
        assert disk.row(URL, now=NOW) == ROW


OF_AN_EARLIER_VERSION = struct.pack(">d", NOW) + ROW[:136]  # a time and an embedding


@pytest.mark.parametrize(
    "value", [b"", b"\x00", ROW, b"\x92\x01\xc0", b"\x91" * 100_000, OF_AN_EARLIER_VERSION], ids=len
)
def test_a_value_that_is_not_features_is_ignored(tmp_path: Path, value: bytes) -> None:
    with cache(tmp_path / "c"):
        pass
    database = rocksdict.Rdict(str(tmp_path / "c"), options=rocksdict.Options(raw_mode=True))
    database[b"v1\x00" + URL.encode()] = value
    database.close()
    with cache(tmp_path / "c") as disk:
        assert disk.row(URL, now=NOW) is None
        disk.keep(URL, ROW, now=NOW)
        assert disk.row(URL, now=NOW) == ROW


def test_changes_are_written_together_and_null_drops_an_entry(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        disk.keep(URL, ROW, now=NOW)
        disk.keep(URL + "?kept", ROW, now=NOW)
        other = encode_features(Features(int(NOW * 1000), ROW[::-1]))
        assert disk.write({features_key("v1", URL): None, features_key("v1", URL + "?2"): other})
        assert [disk.row(url, now=NOW) for url in (URL, URL + "?2", URL + "?kept")] == [None, ROW[::-1], ROW]


def test_each_cache_that_was_created_has_an_identity_of_its_own(tmp_path: Path) -> None:
    identities: list[str] = []
    for _ in range(2):
        with cache(tmp_path / "c") as disk:
            identities.append(disk.identity)
    garbage(tmp_path / "c" / "CURRENT")
    with cache(tmp_path / "c") as disk:
        identities.append(disk.identity)
    first, restarted, created_again = identities
    assert first == restarted != created_again
    assert first


def test_a_full_disk_is_one_line_and_loses_nothing_that_was_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with cache(tmp_path / "c") as disk, no_file_above(2 * MIB):
        fill(disk, 500)
        written = found(disk, 500)
        assert 100 < written < 500
        assert "File too large" in disk.write_error
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"cannot write to the picture cache in {tmp_path}/c" in caplog.text
    with cache(tmp_path / "c") as disk:
        assert found(disk, 500) == written
        assert is_usable(disk)


@contextmanager
def no_file_above(size: int) -> Generator[None]:
    """Let writes beyond `size` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_of_several_failed_writes_the_first_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with cache(tmp_path / "c") as disk:
        pass
    for number in range(3):
        disk.keep(f"{URL}?{number}", ROW, now=NOW)
    assert caplog.text.count(f"cannot write to the picture cache in {tmp_path}/c") == 1


def test_a_failed_write_is_remembered(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        disk.keep(URL, ROW, now=NOW)
        assert disk.write_error == ""
    disk.keep(URL, ROW, now=NOW)
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
            disk.keep(f"{number}", row, now=NOW)
            if number % 50 == 0:
                peak = max(peak, size(tmp_path / "c"))
        assert disk.row("0", now=NOW) is None
        assert disk.row("1599", now=NOW) == row
        kept = sum(disk.row(f"{number}", now=NOW) is not None for number in range(1600))
    assert limit / 2 < kept * len(row)
    assert peak < 2 * limit  # the newest are in memory and in the log until they are written to a file
    assert size(tmp_path / "c") < 1.5 * limit


def test_a_lower_limit_counts_from_the_next_start(tmp_path: Path) -> None:
    with cache(tmp_path / "c", max_bytes=64 * MIB) as disk:
        fill(disk)
    before = size(tmp_path / "c")
    with cache(tmp_path / "c", max_bytes=8 * MIB) as disk:
        fill(disk)
    assert size(tmp_path / "c") < before


def test_the_cache_reports_that_it_is_full(tmp_path: Path) -> None:
    with cache(tmp_path / "c", max_bytes=16 * MIB) as disk:
        disk.keep(URL, ROW, now=NOW)
        assert not disk.full
        fill(disk)
        assert disk.full


# Damage


def fill(disk: OneVersion, count: int = MANY) -> None:
    rows = np.random.default_rng(2)
    for number in range(count):
        disk.keep(f"{URL}?{number}", rows.bytes(LENGTH), now=NOW)


def found(disk: OneVersion, count: int = MANY) -> int:
    return sum(disk.row(f"{URL}?{number}", now=NOW) is not None for number in range(count))


def is_usable(disk: OneVersion) -> bool:
    for number in range(0, MANY, 10):
        disk.keep(f"{URL}?{number}", ROW, now=NOW)
    return all(disk.row(f"{URL}?{number}", now=NOW) == ROW for number in range(0, MANY, 10))


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
        assert f"dropped the picture cache in {folder}, which cannot be read" in caplog.text
        assert found(disk) == 0
        assert is_usable(disk)
    with cache(folder) as disk:
        assert disk.row(f"{URL}?0", now=NOW) == ROW


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
            disk.keep(f"{URL}?{number}", ROW, now=NOW)
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
        database[b"v1\x00%d" % number] = ROW[: number % 100]
    database.close()
    with cache(tmp_path / "c") as disk:
        assert all(disk.row(f"{number}", now=NOW) is None for number in range(1000))
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
    with pytest.raises(StateError, match=f"cannot create the picture cache in {tmp_path}/link/c: ") as refused:
        DiskCache(tmp_path / "link" / "c", row_bytes={"v1": LENGTH}, max_bytes=MIB, max_age=60)
    assert "\n" not in str(refused.value)
