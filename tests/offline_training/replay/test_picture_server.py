"""Local pictures of the data set are served to the workers, and nothing else is."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import DatasetError
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.events import PlayedItem
from offline_training.replay.play.picture_server import served_pictures
from tests.offline_training.datasets.zips import damage, encrypt, write_zip

PICTURE = b"\xff\xd8\xff a picture"


def items(folder: Path) -> dict[str, PlayedItem]:
    (folder / "hat.jpg").write_bytes(PICTURE)
    (folder / "secret.txt").write_bytes(b"secret")
    found = {"hat": str(folder / "hat.jpg"), "tie": "https://shop.example/tie.jpg", "gone": str(folder / "gone.jpg")}
    return {name: PlayedItem(number, PictureRef(picture), ()) for number, (name, picture) in enumerate(found.items())}


async def test_a_file_gets_a_url_and_a_url_stays(tmp_path: Path) -> None:
    known = items(tmp_path)
    async with (
        served_pictures(known, PictureFolders([tmp_path]), "127.0.0.1", 0) as address,
        aiohttp.ClientSession() as client,
    ):
        assert address(known["tie"]) == "https://shop.example/tie.jpg"
        async with client.get(address(known["hat"])) as response:
            assert (response.status, await response.read()) == (200, PICTURE)
        base = address(known["hat"]).rpartition("/")[0]
        for path in ("1", "2", "99", "hat.jpg", "..%2Fsecret.txt", "secret.txt", ""):
            async with client.get(f"{base}/{path}") as response:
                assert response.status == 404, path


async def test_a_port_in_use_is_an_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ReplayError, match=f"--serve-on 127.0.0.1:{port}: .*in use"):
            async with served_pictures(items(tmp_path), PictureFolders([tmp_path]), "127.0.0.1", port):
                pass


async def test_without_local_pictures_nothing_is_served(tmp_path: Path) -> None:
    only = {"tie": items(tmp_path)["tie"]}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with served_pictures(only, PictureFolders([tmp_path]), "127.0.0.1", taken.getsockname()[1]) as address:
            assert address(only["tie"]) == "https://shop.example/tie.jpg"


async def test_pictures_in_an_archive_are_served_concurrently(tmp_path: Path) -> None:
    members = {f"in/{number}.jpg": PICTURE + bytes([number]) * 3000 for number in range(100)}
    archive = write_zip(tmp_path / "a.zip", members)
    known = {name: PlayedItem(number, PictureRef(f"{archive}!/{name}"), ()) for number, name in enumerate(members)}
    async with (
        served_pictures(known, PictureFolders([tmp_path]), "127.0.0.1", 0) as address,
        aiohttp.ClientSession() as client,
    ):

        async def got(name: str) -> bytes:
            async with client.get(address(known[name])) as response:
                assert response.status == 200
                return await response.read()

        assert await asyncio.gather(*map(got, members)) == list(members.values())


async def test_an_unreadable_member_is_refused_and_the_others_are_served(tmp_path: Path) -> None:
    names = ["large.jpg", "secret.jpg", "broken.jpg", "good.jpg"]
    archive = write_zip(tmp_path / "a.zip", dict.fromkeys(names, PICTURE) | {"large.jpg": bytes(5000)})
    encrypt(archive, "secret.jpg")
    damage(archive, "broken.jpg")
    known = {
        name: PlayedItem(number, PictureRef(f"{archive}!/{name}"), ())
        for number, name in enumerate([*names, "gone.jpg"])
    }
    async with (
        served_pictures(known, PictureFolders([tmp_path]), "127.0.0.1", 0, max_bytes=4999) as address,
        aiohttp.ClientSession() as client,
    ):
        found: dict[str, int] = {}
        for name, item in known.items():
            async with client.get(address(item)) as response:
                found[name] = response.status
        base = address(known["good.jpg"]).rpartition("/")[0]
        for path in ("good.jpg", "a.zip!/good.jpg", "..%2Fa.zip", "a.zip"):
            async with client.get(f"{base}/{path}") as response:
                assert response.status == 404, path
    assert found == {"large.jpg": 413, "secret.jpg": 404, "broken.jpg": 404, "good.jpg": 200, "gone.jpg": 404}


async def test_an_unreadable_archive_is_an_error_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone.zip: there is no such file"):
        async with served_pictures(
            {"hat": PlayedItem(0, PictureRef(f"{tmp_path}/gone.zip!/hat.jpg"), ())},
            PictureFolders([tmp_path]),
            "127.0.0.1",
            0,
        ):
            pass
