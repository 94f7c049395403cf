"""Pictures in archives are read without unpacking the archive. The claims of an archive are checked."""

import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from zipfile import ZIP_LZMA, ZipFile

import numpy as np
import pytest

from model.exceptions import PictureError
from offline_training.datasets.picture_files import PictureFiles, pictures_by_item
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError, Dropped
from tests.offline_training.datasets.zips import bomb, claim, damage, encrypt, write_zip

JPEG = b"\xff\xd8\xff"  # the first bytes of one
HAT, TIE = JPEG + b"a hat", JPEG + b"a tie"
RANDOM = JPEG + np.random.default_rng(0).bytes(49_997)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "Pictures.ZIP", {"hat.jpg": HAT, "women/tie.png": RANDOM, "notes.txt": b"no picture"})


def test_pictures_of_an_archive_are_found_by_item_and_read_without_unpacking(archive: Path, tmp_path: Path) -> None:
    found = pictures_by_item(archive, Dropped())
    assert found == {
        "hat": PictureRef(f"{archive}!/hat.jpg"),
        "tie": PictureRef(f"{archive}!/women/tie.png"),
    }
    with PictureFiles(PictureFolders([tmp_path])) as files:
        assert [files.read(picture) for picture in found.values()] == [HAT, RANDOM]
    assert [one.name for one in archive.parent.iterdir()] == [archive.name], "nothing was unpacked"


def test_plain_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "hat.jpg").write_bytes(HAT)
    assert pictures_by_item(tmp_path, Dropped()) == {"hat": PictureRef(str(tmp_path / "hat.jpg"))}
    with PictureFiles(PictureFolders([tmp_path]), max_bytes=len(HAT)) as files:
        assert files.read(PictureRef(str(tmp_path / "hat.jpg"))) == HAT
        with pytest.raises(PictureError, match=r"gone.jpg: there is no such file") as caught:
            files.read(PictureRef(str(tmp_path / "gone.jpg")))
    assert caught.value.reason == "missing_picture"


def test_a_member_whose_name_looks_like_a_url_is_not_a_url(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"http://169.254.169.254/hat.jpg": HAT, "../../etc/tie.jpg": TIE})
    found = pictures_by_item(archive, Dropped())
    assert not any(picture.is_url for picture in found.values())
    with PictureFiles(PictureFolders([tmp_path])) as files:
        assert [files.read(found[name]) for name in ("hat", "tie")] == [HAT, TIE]


def lzma(path: Path) -> None:
    with ZipFile(path, "w", ZIP_LZMA) as archive:
        archive.writestr("bad.jpg", RANDOM)
        archive.writestr("good.jpg", HAT)


@pytest.mark.parametrize(
    ("spoil", "reason", "told"),
    [
        (encrypt, "unreadable_picture", "it is encrypted"),
        (damage, "unreadable_picture", "bad.jpg: .*(CRC|invalid|incorrect)"),
        (partial(claim, size=60_000), "unreadable_picture", "50000 bytes, but the archive claims 60000|CRC"),
        (partial(claim, size=40_000), "unreadable_picture", "CRC"),
        (partial(claim, size=2**32 - 2), "picture_too_large", "4294967294 bytes, more than the limit of 100000"),
    ],
)  # fmt: skip
def test_a_member_that_is_not_what_it_should_be_costs_only_itself(
    spoil: Callable[[Path, str], None], reason: str, told: str, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "a.zip", {"bad.jpg": RANDOM, "good.jpg": HAT})
    spoil(path, "bad.jpg")
    with PictureFiles(PictureFolders([tmp_path]), max_bytes=100_000) as files:
        for _ in range(2):
            with pytest.raises(PictureError, match=told) as caught:
                files.read(PictureRef(f"{path}!/bad.jpg"))
            assert caught.value.reason == reason
            assert files.read(PictureRef(f"{path}!/good.jpg")) == HAT


def test_a_method_that_may_take_gigabytes_is_refused(tmp_path: Path) -> None:
    lzma(tmp_path / "a.zip")
    with (
        PictureFiles(PictureFolders([tmp_path])) as files,
        pytest.raises(PictureError, match="compressed by method 14, expected stored or def"),
    ):
        files.read(PictureRef(f"{tmp_path}/a.zip!/bad.jpg"))


@pytest.mark.parametrize("claimed", [None, 1000])
def test_a_member_that_grows_is_not_unpacked(claimed: int | None, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"bad.jpg": bomb(50_000_000)})
    if claimed:
        claim(path, "bad.jpg", claimed)
    with PictureFiles(PictureFolders([tmp_path]), max_bytes=100_000) as files:
        files.open([PictureRef(f"{path}!/bad.jpg")])
        tracemalloc.start()
        try:
            with pytest.raises(PictureError):
                files.read(PictureRef(f"{path}!/bad.jpg"))
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


def test_a_member_that_is_not_there_is_named(archive: Path, tmp_path: Path) -> None:
    with (
        PictureFiles(PictureFolders([tmp_path])) as files,
        pytest.raises(PictureError, match=r"gone.jpg: the archive has no such member"),
    ):
        files.read(PictureRef(f"{archive}!/gone.jpg"))


def test_archives_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no archive")
    with pytest.raises(DatasetError, match=r"a.zip: expected a ZIP archive"):
        pictures_by_item(tmp_path / "a.zip", Dropped())
    with pytest.raises(DatasetError, match=r"gone.zip: there is no such file"):
        pictures_by_item(tmp_path / "gone.zip", Dropped())
    with pytest.raises(DatasetError, match=r"a.tar: expected a folder or a .zip"):
        pictures_by_item(tmp_path / "a.tar", Dropped())
    with pytest.raises(DatasetError, match=r"expected pictures named by item \(.avif, .*found none"):
        pictures_by_item(write_zip(tmp_path / "b.zip", {"notes.txt": b""}), Dropped())
    with PictureFiles(PictureFolders([tmp_path])) as files:
        with pytest.raises(DatasetError, match=r"a.zip: not an intact ZIP archive"):
            files.open([PictureRef(f"{tmp_path}/a.zip!/hat.jpg")])
        with pytest.raises(PictureError, match=r"gone.zip: there is no such file"):
            files.read(PictureRef(f"{tmp_path}/gone.zip!/hat.jpg"))


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    members = {f"{number}.jpg": JPEG + chance.bytes(int(chance.integers(1, 40_000))) for number in range(200)}
    path = write_zip(tmp_path / "a.zip", members)
    together = threading.Barrier(8)
    with PictureFiles(PictureFolders([tmp_path])) as files, ThreadPoolExecutor(8) as pool:

        def all_of_them(seed: int) -> bool:
            together.wait()
            names = np.random.default_rng(seed).permutation(list(members)).tolist()
            return all(files.read(PictureRef(f"{path}!/{name}")) == members[name] for name in names)

        assert all(pool.map(all_of_them, range(8)))
