"""Pictures that are files are served to the workers, and nothing else is."""

import socket
from pathlib import Path

import aiohttp
import pytest

from streams.replay.exceptions import ReplayError
from streams.replay.serving import served_pictures
from streams.replay.source import Item

PICTURE = b"\xff\xd8\xff a picture"


def items(folder: Path) -> dict[str, Item]:
    (folder / "hat.jpg").write_bytes(PICTURE)
    (folder / "secret.txt").write_bytes(b"secret")
    found = {"hat": str(folder / "hat.jpg"), "tie": "https://shop.example/tie.jpg", "gone": str(folder / "gone.jpg")}
    return {name: Item(number, picture, ()) for number, (name, picture) in enumerate(found.items())}


async def test_a_file_has_an_address_and_a_url_stays(tmp_path: Path) -> None:
    known = items(tmp_path)
    async with served_pictures(known, "127.0.0.1", 0) as address, aiohttp.ClientSession() as client:
        assert address(known["tie"]) == "https://shop.example/tie.jpg"
        async with client.get(address(known["hat"])) as response:
            assert (response.status, await response.read()) == (200, PICTURE)
        base = address(known["hat"]).rpartition("/")[0]
        for path in ("1", "2", "99", "hat.jpg", "..%2Fsecret.txt", "secret.txt", ""):
            async with client.get(f"{base}/{path}") as response:
                assert response.status == 404, path


async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ReplayError, match=f"--serve-on 127.0.0.1:{port}: .*in use"):
            async with served_pictures(items(tmp_path), "127.0.0.1", port):
                pass


async def test_without_files_nothing_is_served(tmp_path: Path) -> None:
    only = {"tie": items(tmp_path)["tie"]}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with served_pictures(only, "127.0.0.1", taken.getsockname()[1]) as address:
            assert address(only["tie"]) == "https://shop.example/tie.jpg"
