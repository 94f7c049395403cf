"""`tastestream taste`: somebody's folder in, the profile out, as the workers would score it; and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from model.bundle import Bundle
from model.heic import decoders_with_heic, has_heic
from model.preprocessing import decode_picture
from model.quantization import quantize_all
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.taste import work
from streams.trend.trend import Trend
from tests.command import Command, Done
from tests.streams.taste.made import BROKEN, STRANGE, photo, products, write_photos

pytestmark = pytest.mark.skipif(not has_heic(), reason="the extra heic is not installed")

WEIGHTS = {"purchase": 1.0, "cart": 0.6, "view": 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("taste") / "photos")


@pytest.fixture
def tastestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that connects anywhere."""
    connect = socket.socket.connect

    def refused(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refused)


def profile(done: Done) -> dict[str, Any]:
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def the_one_line(done: Done, code: int) -> str:
    assert (done.code, done.out) == (code, "")
    [line] = done.err.splitlines()
    return line


def sneakers(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number, product in enumerate(products("sneakers")[:count]):
        (folder / f"{number}.jpg").write_bytes(photo(product, taken=f"2024:05:{10 + number} 12:00:00"))
    return folder


def test_the_profile_is_what_the_workers_make_of_a_bag_of_these_photos(tastestream: Command, folder: Path) -> None:
    found = profile(tastestream("taste", str(folder), "--json", "--top", "12"))
    jsonschema.Draft202012Validator(profile(tastestream("schema", "taste"))).validate(found)
    bundle = Bundle.load()
    embedder = bundle.split_embedder()
    bag = Bag()
    for one in found["photos"]:
        data = (folder / one["name"]).read_bytes()
        pixels = decode_picture(data, bundle.image_size, decoders=decoders_with_heic())
        event = EmbeddedInteraction(
            event_id=one["name"], user_id="ada", item_id=one["name"], type="purchase", timestamp=1_700_000_000_000,
            embedder_version=bundle.embedder_version,
            embedding=quantize_all(embedder.of_features(embedder.backbone.features(pixels[None])))[0],
        )  # fmt: skip
        bag = fold(bag, event, max_slots=128, kept={bundle.embedder_version})
    recommender = Recommender(bundle, bundle.aggregator(), ScoringOptions(64, 12, WEIGHTS, None))
    [answer] = recommender.answers([(bag, 1_700_000_000_000)], Trend(None, {}, len(bundle.categories)))
    expected = {one.category: pytest.approx(one.score, abs=2e-5) for one in answer.categories}
    assert {one["category"]: one["score"] for one in found["categories"]} == expected
    assert [one["weight"] for one in found["photos"]][:3] == pytest.approx(
        [one.weight for one in answer.attention][:3], abs=2e-5
    )
    assert sum(one["weight"] for one in found["photos"]) == pytest.approx(1, abs=1e-4)


def test_it_says_what_was_used_and_what_was_not_and_why(tastestream: Command, folder: Path) -> None:
    found = profile(tastestream("taste", str(folder), "--json"))
    assert {found["categories"][0]["category"], found["categories"][1]["category"]} == {"sneakers", "houseplant"}
    behind = {one["category"]: one["photos"] for one in found["because"]}
    assert all(name.startswith("2024/IMG_1") or name == STRANGE for name in behind["sneakers"])
    used = {one["name"] for one in found["photos"]}
    assert used >= {"2024/IMG_3000.HEIC", STRANGE, "2024/june/moving.gif", "2024/june/screenshot.png"}
    assert found["bag_size"] == len(used) == 14
    assert {one["name"]: one["reason"] for one in found["refused"]} == {
        "cut.jpg": "truncated_picture", "notes.jpg": "not_a_picture", "huge.png": "picture_too_large",
        "2024/june/IMG_2000.jpg": "duplicate",
    }  # fmt: skip
    assert {one["name"] for one in found["refused"]} >= BROKEN
    assert found["others"] == {"hidden": 2, "link": 1, "empty": 1, "special file": 1, ".mov": 1, ".pdf": 1, ".txt": 1}


def test_a_turned_photo_says_the_same_as_an_upright_one(tastestream: Command, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    for orientation in (1, 6, 8, 3):
        path = tmp_path / f"{orientation}.png"
        path.write_bytes(photo(products("sneakers")[3], "PNG", orientation))
        said.append(profile(tastestream("taste", str(path), "--json")))
    for other in said[1:]:
        assert [one["category"] for one in other["categories"][:2]] == [
            one["category"] for one in said[0]["categories"][:2]
        ]
        assert [one["score"] for one in other["categories"]] == pytest.approx(
            [one["score"] for one in said[0]["categories"]], abs=0.05
        )


def test_the_newest_photos_are_scored_and_older_ones_are_not_opened(tastestream: Command, folder: Path) -> None:
    found = profile(tastestream("taste", str(folder), "--json", "--bag-size", "3"))
    assert {one["name"] for one in found["photos"]} == {
        "2024/june/chat.webp", "2024/june/screenshot.png", "2024/june/IMG_2002.jpg",
    }  # fmt: skip
    assert (found["bag_size"], found["older"], found["refused"]) == (3, 15, [])


def test_broken_photos_are_replaced_by_older_ones(tastestream: Command, tmp_path: Path) -> None:
    folder = sneakers(tmp_path / "photos")
    for number in range(30):
        (folder / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff no photo")
    found = profile(tastestream("taste", str(folder), "--json", "--bag-size", "2"))
    assert {one["name"] for one in found["photos"]} == {"1.jpg", "2.jpg"}
    assert (found["older"], sum(found["refused_count"].values())) == (1, 30)


def test_what_was_only_viewed_counts_less(tastestream: Command, tmp_path: Path) -> None:
    (tmp_path / "plants").mkdir()
    for number, product in enumerate(products("houseplant")[:3]):
        (tmp_path / "plants" / f"{number}.jpg").write_bytes(photo(product, taken="2024:05:10 12:00:00"))
    folder = sneakers(tmp_path / "photos")
    bought = profile(tastestream("taste", str(folder), str(tmp_path / "plants"), "--json"))
    viewed = profile(tastestream("taste", str(folder), "--view", str(tmp_path / "plants"), "--json"))
    shares = [
        sum(one["weight"] for one in found["photos"] if one["name"].startswith("plants/")) for found in (bought, viewed)
    ]
    assert shares[1] < shares[0] - 0.05
    assert {one["type"] for one in viewed["photos"] if one["name"].startswith("plants/")} == {"view"}


def test_the_table_fits_80_columns_and_no_name_draws_on_the_terminal(
    tastestream: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tastestream("taste", str(folder), "--top", "20")
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    details = [line for line in lines if line.startswith(("  ", "no photos", "not used"))]
    assert max(len(line.rstrip()) for line in lines if line not in details) <= 80
    assert [line for line in lines if line.startswith("14 photos, 2023-01-02 to 2024-06-21; model default ")]
    assert [line for line in lines if line.startswith("no photos: 2 hidden, ")]
    assert any(line.startswith("houseplant") and "█" in line for line in lines)


def test_without_a_photo_there_is_one_line(tastestream: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = the_one_line(tastestream("taste", str(tmp_path / "empty")), 1)
    assert line == "error: there is no photo that can be read: the folder is empty"
    (tmp_path / "empty" / "a.txt").write_bytes(b"text")
    (tmp_path / "empty" / "b.jpg").write_bytes(b"text")
    line = the_one_line(tastestream("taste", str(tmp_path / "empty")), 1)
    assert line == (
        "error: there is no photo that can be read: 1 photo not_a_picture (the first: b.jpg: 4 bytes that start with b'text': "
        "send a JPEG, PNG, WebP, GIF or AVIF); 1 .txt"
    )


def test_heic_without_its_extra_says_how_to_get_it(
    tastestream: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "has_heic", lambda: False)
    line = the_one_line(tastestream("taste", str(folder / "2024" / "IMG_3000.HEIC")), 1)
    assert "HEIC is read with the extra heic: pip install 'tastestream[heic]'" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: there is no such file or folder"),
        ([".", "--view", "nowhere"], "nowhere: there is no such file or folder"),
        ([".", "--html", "nowhere/me.html"], "--html nowhere/me.html: expected a file in a folder that exists"),
        ([".", "--html", "."], "--html .: expected a file in a folder that exists"),
        ([".", "--top", "0"], "greater than or equal to 1"),
        ([".", "--bag-size", "257"], "less than or equal to 256"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_argument_is_one_line_with_code_2(tastestream: Command, arguments: list[str], said: str) -> None:
    assert said in the_one_line(tastestream("taste", *arguments), 2)


def test_a_bundle_that_cannot_be_used_is_one_line_with_code_78(tastestream: Command, tmp_path: Path) -> None:
    folder = sneakers(tmp_path / "photos", 1)
    assert "manifest.json" in the_one_line(tastestream("taste", str(folder), TASTESTREAM_BUNDLE=str(tmp_path)), 78)


def test_nothing_is_left_but_the_page(tastestream: Command, tmp_path: Path) -> None:
    folder = sneakers(tmp_path / "photos")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = tastestream("taste", str(folder), "--html", "me.html")
    assert done.out.splitlines()[-1] == "wrote me.html"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "me.html"} == before


def test_ctrl_c_ends_it_with_code_130_and_its_processes(tmp_path: Path) -> None:
    folder = sneakers(tmp_path / "photos", 1)
    huge = photo(products("sneakers")[0], "PNG")
    for number in range(64):
        (folder / f"many{number}.png").write_bytes(huge + bytes([number]))
    command = [sys.executable, "-m", "streams", "taste", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        deadline = time.monotonic() + 60
        while not (pids := _decoders(running.pid)) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert children.exists()
        assert pids
        os.kill(running.pid, signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode in (130, 0)  # 0: it was quicker
    assert running.returncode == 0 or out == b""
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _decoders(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
