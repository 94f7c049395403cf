"""The cache on disk: it forgets what is old, belongs to one embedder, is bounded, and a damaged one is dropped."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streams.embed.cache import DiskCache

NOW = 1_400_000_000.0
URL = "https://shop.example/shoe.jpg"
EMBEDDING = bytes(range(200))


@contextmanager
def cache(folder: Path, *, embedder: str = "v1", max_bytes: int = 1024**2, max_age: float = 60) -> Generator[DiskCache]:
    opened = DiskCache(folder, embedder=embedder, max_bytes=max_bytes, max_age=max_age)
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
    with cache(tmp_path / "c", max_age=60) as disk:
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW + 60) == EMBEDDING
        assert disk.get(URL, now=NOW + 60.1) is None
        disk.put(URL, b"newer", now=NOW + 61)
        assert disk.get(URL, now=NOW + 100) == b"newer"


def test_another_embedder_does_not_see_it(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder="v1") as disk:
        disk.put(URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder="v2") as disk:
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, b"other", now=NOW)
    with cache(tmp_path / "c", embedder="v1") as disk:
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_embedder_whose_name_begins_alike_does_not_see_it_either(tmp_path: Path) -> None:
    with cache(tmp_path / "c", embedder="v1") as disk:
        disk.put("1" + URL, EMBEDDING, now=NOW)
    with cache(tmp_path / "c", embedder="v11") as disk:
        assert disk.get(URL, now=NOW) is None


@pytest.mark.parametrize("damage", ["CURRENT", "MANIFEST-*"])
def test_a_damaged_folder_is_dropped_and_works(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "c"
    with cache(folder) as disk:
        disk.put(URL, EMBEDDING, now=NOW)
    for path in folder.glob(damage):
        path.write_bytes(b"garbage")
    with cache(folder) as disk:
        assert f"the cache in {folder} cannot be read and is dropped" in caplog.text
        assert disk.get(URL, now=NOW) is None
        disk.put(URL, EMBEDDING, now=NOW)
        assert disk.get(URL, now=NOW) == EMBEDDING


def test_an_entry_that_is_too_short_is_none(tmp_path: Path) -> None:
    with cache(tmp_path / "c") as disk:
        disk.put(URL, b"", now=NOW)
        assert disk.get(URL, now=NOW) is None


def test_the_disk_is_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    row = np.random.default_rng(1).bytes(64 * 1024)  # does not compress
    limit = 32 * 1024**2
    with cache(tmp_path / "c", max_bytes=limit) as disk:
        for number in range(2000):  # 125 MiB
            disk.put(f"{number}", row, now=NOW)
        assert disk.get("0", now=NOW) is None
        assert disk.get("1999", now=NOW) == row
    used = sum(path.stat().st_size for path in (tmp_path / "c").rglob("*") if path.is_file())
    assert used < 2 * limit
