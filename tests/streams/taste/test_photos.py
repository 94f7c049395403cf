"""What is in folders: photos with their times, and everything else counted, whatever there is."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.taste import photos
from streams.taste.photos import Found, find, newest_first
from tests.streams.taste.made import CHANGED, STRANGE, photo, products, write_photos

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def found_in(*roots: Path) -> Found:
    return find([(root, "purchase") for root in roots], NOW)


def names(found: Found) -> set[str]:
    return {photo.name for photo in found.photos}


def test_a_folder_has_its_photos_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = found_in(write_photos(tmp_path / "photos"))
    assert names(found) == {
        *(f"2024/IMG_{1000 + number}.JPG" for number in range(6)), *(f"2024/june/IMG_{2000 + number}.jpg" for number in range(3)),
        "2024/june/screenshot.png", "2024/june/chat.webp", "2024/june/moving.gif", "2024/june/IMG_2000 copy.jpg",
        "2024/IMG_3000.HEIC", STRANGE, "cut.jpg", "notes.jpg", "huge.png",
    }  # fmt: skip
    assert found.others == {"hidden": 2, "link": 1, "empty": 1, "special file": 1, ".mov": 1, ".pdf": 1, ".txt": 1}
    assert (found.unreadable_count, found.files) == (0, 23)


def test_a_photo_is_as_old_as_exif_says_or_else_its_file(tmp_path: Path) -> None:
    by_name = {photo.name: photo for photo in found_in(write_photos(tmp_path / "photos")).photos}
    one, other = by_name["2024/IMG_1003.JPG"], by_name["2024/june/moving.gif"]
    assert (one.taken, one.taken_by) == (datetime(2024, 5, 13, 10, tzinfo=UTC), "exif")
    assert (other.taken, other.taken_by) == (CHANGED, "file")
    heic = by_name["2024/IMG_3000.HEIC"]
    assert (heic.taken, heic.taken_by) == (datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC), "exif")
    assert [photo.name for photo in newest_first(list(by_name.values()))][:3] == [
        "2024/june/chat.webp", "2024/june/screenshot.png", "2024/june/IMG_2002.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("taken", ["1980:01:01 00:00:00", "2038:01:19 03:14:07"])
def test_the_clock_of_a_camera_that_is_wrong_does_not_count(tmp_path: Path, taken: str) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(products("sneakers")[0], taken=taken))
    os.utime(tmp_path / "a.jpg", (CHANGED.timestamp(), CHANGED.timestamp()))
    [one] = found_in(tmp_path).photos
    assert (one.taken, one.taken_by) == (CHANGED, "file")


def test_no_photo_is_newer_than_now(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(products("sneakers")[0]))
    os.utime(tmp_path / "a.jpg", (4e9, 4e9))
    (tmp_path / "b.jpg").write_bytes(photo(products("sneakers")[1], taken="2026:11:28 10:00:00"))
    assert {one.taken for one in found_in(tmp_path).photos} == {NOW}


def test_a_folder_that_links_to_itself_ends_and_links_inside_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photo(products("sneakers")[0]))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "out.jpg").symlink_to(secret)
    (folder / "dangling.jpg").symlink_to(folder / "gone")
    found = found_in(folder)
    assert (found.photos, found.others) == ([], {"link": 3})


def test_an_argument_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photo(products("sneakers")[0]))
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "one.jpg").symlink_to(tmp_path / "photos" / "a.jpg")
    assert names(found_in(tmp_path / "link")) == {"a.jpg"}
    assert names(found_in(tmp_path / "one.jpg")) == {"one.jpg"}


def test_a_file_counts_once_and_names_of_several_folders_begin_with_the_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(photo(products("sneakers")[0]))
    os.link(tmp_path / "a" / "1.jpg", tmp_path / "b" / "hard.jpg")
    assert names(found_in(tmp_path / "a", tmp_path / "b", tmp_path / "a" / "1.jpg")) == {"a/1.jpg", "b/1.jpg"}


def test_a_folder_that_cannot_be_opened_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.jpg").write_bytes(photo(products("sneakers")[0]))
    scandir = os.scandir

    def refusing(path: str | Path) -> object:  # root may open any folder
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = found_in(tmp_path)
    assert names(found) == {"open/a.jpg"}
    assert (found.unreadable, found.unreadable_count) == ([("locked", "Permission denied")], 1)


def test_a_name_that_is_no_utf8_is_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(photo(products("sneakers")[0]))
    assert names(found_in(tmp_path)) == {"caf\N{REPLACEMENT CHARACTER}.jpg"}


def test_of_very_many_photos_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_PHOTOS", 5)
    content = photo(products("sneakers")[0])
    for number in range(23):
        (tmp_path / f"{number:02}.jpg").write_bytes(content)
        os.utime(tmp_path / f"{number:02}.jpg", (1e9 + number * 7 % 23, 1e9))
        os.utime(tmp_path / f"{number:02}.jpg", (1e9, 1e9 + number * 7 % 23))
    found = found_in(tmp_path)
    assert {int(photo.taken.timestamp() - 1e9) for photo in found.photos} == {18, 19, 20, 21, 22}
    assert found.others == {"older photo": 18}


def test_kinds_of_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_KINDS", 3)
    for number in range(10):
        (tmp_path / f"a.{number}").write_bytes(b"text")
    assert found_in(tmp_path).others == {".0": 1, ".1": 1, ".2": 1, "other": 7}
