"""A data set names only pictures in its own folders. It cannot have any other file of this machine read or served."""

import os
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import aiohttp
import pytest

from model.exceptions import PictureError
from offline_training.datasets.picture_files import PictureFiles, pictures_by_item
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import Dropped
from offline_training.replay.play.events import PlayedItem, PreparedDataset
from offline_training.replay.play.picture_server import served_pictures
from tests.offline_training.datasets.test_prepare import prepared
from tests.offline_training.datasets.zips import write_zip

PICTURE = b"\xff\xd8\xff a picture"
LIMIT = 10_000


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """The folder of a data set. Beside it is a private picture."""
    (tmp_path / "private.jpg").write_bytes(PICTURE)
    folder = tmp_path / "set"
    folder.mkdir()
    return folder


def plain(path: Path) -> None:
    path.write_bytes(PICTURE)


def linked(path: Path) -> None:
    path.symlink_to("../private.jpg")


def linked_folder(path: Path) -> None:
    (path.parent / "up").symlink_to("..")
    path.symlink_to("up/private.jpg")


def linked_inside(path: Path) -> None:
    (path.parent / "other.jpg").write_bytes(PICTURE)
    path.symlink_to("other.jpg")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def text(path: Path) -> None:
    path.write_text("root:x:0:0:root:/root:/bin/bash")


def sparse(path: Path) -> None:
    path.write_bytes(PICTURE)
    os.truncate(path, 10**10)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "a picture": (plain, 200, ""),
    "a link in the folder": (linked_inside, 200, ""),
    "a link out of the folder": (linked, 404, "outside the folders of the data set, at "),
    "a link by a linked folder": (linked_folder, 404, "outside the folders of the data set, at "),
    "a link to a device": (device, 404, "outside the folders of the data set, at /dev/zero"),
    "a link to itself": (loop, 404, "symbolic links"),
    "a pipe": (os.mkfifo, 404, "not a regular file"),
    "a folder": (Path.mkdir, 404, "Is a directory"),
    "text": (text, 415, "bytes that start with b'root:x"),
    "nothing": (Path.touch, 415, "0 bytes that start with b''"),
    "10 GB": (sparse, 413, "more than the limit of 10000 bytes"),
}


@pytest.mark.parametrize(("make", "status", "told"), KINDS.values(), ids=KINDS)
async def test_only_a_picture_in_the_folders_is_read_and_served(
    inside: Path, make: Callable[[Path], object], status: int, told: str
) -> None:
    make(inside / "hat.jpg")
    item = PlayedItem(0, PictureRef(str(inside / "hat.jpg")), ())
    folders = PictureFolders([inside])
    with PictureFiles(folders, LIMIT) as files:
        if status == 200:
            assert files.read(PictureRef(str(inside / "hat.jpg"))) == PICTURE
        else:
            with pytest.raises(PictureError, match=told):
                files.read(PictureRef(str(inside / "hat.jpg")))
    served = served_pictures({"hat": item}, folders, "127.0.0.1", 0, max_bytes=LIMIT)
    async with served as address, aiohttp.ClientSession() as client, client.get(address(item)) as response:
        assert response.status == status
        assert (await response.read() == PICTURE) == (status == 200)


@pytest.mark.parametrize(
    "named",
    ["/etc/passwd", "/dev/zero", "/proc/self/environ", "../private.jpg", "x/../../private.jpg", "link.jpg", "../set2/a.jpg",
     "../private.zip!/1.jpg", "/"],
)  # fmt: skip
def test_a_table_cannot_name_a_file_outside_its_folder(inside: Path, named: str) -> None:
    (inside / "link.jpg").symlink_to("../private.jpg")
    (inside.parent / "set2").mkdir()
    plain(inside.parent / "set2" / "a.jpg")
    write_zip(inside.parent / "private.zip", {"1.jpg": PICTURE})
    plain(inside / "hat.jpg")
    (inside / "items.csv").write_text(f"item,image,categories\nhat,hat.jpg,a\nevil,{named},b\n")
    command = ("tables", "--items", inside / "items.csv", "--out", inside.parent / "out", "--min-items", 1)
    summary, _, items = prepared(*command, "--pictureless")
    assert (items["hat"]["image"], items["evil"]["image"]) == (str(inside / "hat.jpg"), "")
    assert summary.dropped == {"picture_outside_the_data_set": 1}
    assert "name its folder with --pictures" in summary.examples["picture_outside_the_data_set"]
    assert PictureRef(f"{inside}/a\0.jpg") not in PictureFolders([inside])


def test_the_folder_that_pictures_names_is_read_and_no_other(inside: Path) -> None:
    elsewhere = inside.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("hat.jpg", "front-2.jpg"):
        plain(elsewhere / name)
    (elsewhere / "tie.jpg").symlink_to("../private.jpg")
    plain(inside / "sock.jpg")
    rows = f"hat,http://a/hat.jpg,a\nscarf,{elsewhere}/front-2.jpg,b\ntie,,c\nsock,sock.jpg,d\nbag,http://a/bag.jpg,e\n"
    (inside / "items.csv").write_text(f"item,image,categories\n{rows}")
    out = inside.parent / "out"
    command = ("tables", "--items", inside / "items.csv", "--out", out, "--min-items", 1, "--pictureless")
    summary, _, items = prepared(*command, "--pictures", elsewhere)
    assert [items[name]["image"] for name in ("hat", "scarf", "tie", "sock", "bag")] == [
        f"{elsewhere}/hat.jpg", f"{elsewhere}/front-2.jpg", "", "", ""
    ]  # fmt: skip
    assert summary.dropped == {"picture_outside_the_data_set": 2}
    assert summary.pictures_in == [str(elsewhere)]
    data = PreparedDataset(out)
    assert PictureRef(f"{elsewhere}/hat.jpg") in data.folders
    assert PictureRef(f"{inside}/sock.jpg") not in data.folders


async def test_the_pictures_of_a_folder_that_somebody_else_prepared_are_those_that_it_contains(inside: Path) -> None:
    (inside / "items.csv").write_text("item,image,categories\nhat,hat.jpg,a\n")
    plain(inside / "hat.jpg")
    out = inside.parent / "out"
    prepared("tables", "--items", inside / "items.csv", "--out", out, "--min-items", 1)
    (out / "dataset.json").unlink()
    data = PreparedDataset(out)
    served = served_pictures(data.items, data.folders, "127.0.0.1", 0)
    async with served as address, aiohttp.ClientSession() as client, client.get(address(data.items["hat"])) as response:
        assert response.status == 404


def test_of_several_pictures_of_one_item_the_shortest_path_wins_and_the_others_are_counted(tmp_path: Path) -> None:
    names = ("thumbs/1.jpg", "1.jpg", "1.png", "a/b/2.jpg", "longer/2.jpg", "b/3.jpg", "a/3.jpg", "4.jpg")
    archive = write_zip(tmp_path / "p.zip", dict.fromkeys(names, PICTURE))
    folder = tmp_path / "folder"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        plain(folder / name)
    for pictures, start in ((archive, f"{archive}!/"), (folder, f"{folder}/")):
        dropped = Dropped()
        found = {
            item: str(picture).removeprefix(start) for item, picture in pictures_by_item(pictures, dropped).items()
        }
        assert found == {"1": "1.jpg", "2": "longer/2.jpg", "3": "a/3.jpg", "4": "4.jpg"}
        assert dropped.counts == {"second_picture_of_an_item": 4}
        assert dropped.examples["second_picture_of_an_item"] == f"{start}1.png, {start}1.jpg is kept"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_an_archive_has_twice_is_counted_and_said(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("1.jpg", PICTURE)
        archive.writestr("1.jpg", PICTURE + b"2")
    (tmp_path / "items.csv").write_text("item,image,categories\n1,,a\n")
    command = ("tables", "--items", tmp_path / "items.csv", "--pictures", tmp_path / "p.zip", "--min-items", 1)
    summary, _, _ = prepared(*command, "--out", tmp_path / "out")
    assert summary.dropped == {"second_picture_of_an_item": 1}


@pytest.mark.parametrize(
    ("named", "picture"),
    [
        ("//cdn.example/1.jpg", "https://cdn.example/1.jpg"),
        (" //CDN.example:8443/1.jpg?w=2 ", "https://CDN.example:8443/1.jpg?w=2"),
        ("//[2001:db8::1]/1.jpg", "https://[2001:db8::1]/1.jpg"),
        ("http://cdn.example/1.jpg", "http://cdn.example/1.jpg"),
        ("///cdn.example/1.jpg", "///cdn.example/1.jpg"),
        ("/cdn.example/1.jpg", "/cdn.example/1.jpg"),
        ("//", "//"),
    ],
)
def test_an_address_without_a_scheme_is_https(named: str, picture: str) -> None:
    found = PictureRef.parse(named)
    assert str(found) == picture
    assert found
    assert found.is_web_url == picture.startswith("http")


def test_tables_and_metadata_keep_a_picture_whose_address_has_no_scheme(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,image,categories\n1,//cdn.example/1.jpg,a\n")
    _, _, items = prepared("tables", "--items", tmp_path / "items.csv", "--out", tmp_path / "out", "--min-items", 1)
    assert items["1"]["image"] == "https://cdn.example/1.jpg"
    (tmp_path / "meta.json").write_text('{"asin": "B1", "imUrl": "//ecx.example/1.jpg", "categories": [["a", "b"]]}')
    (tmp_path / "r.json").write_text('{"asin": "B1", "reviewerID": "u", "overall": 5, "unixReviewTime": 1393372800}')
    command = ("amazon", "--reviews", tmp_path / "r.json", "--metadata", tmp_path / "meta.json")
    _, _, items = prepared(*command, "--out", tmp_path / "amazon", "--min-items", 1)
    assert items["B1"]["image"] == "https://ecx.example/1.jpg"
