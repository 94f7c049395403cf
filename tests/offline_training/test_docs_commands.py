"""The commands on the pages about training, from data sets to figures: on small slices of each form, and on real excerpts."""

import gzip
import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

import numpy as np
from typer.testing import CliRunner, Result

from model.bundle import Bundle
from offline_training.datasets.formats.amazon import ALL_PURCHASES, Amazon
from offline_training.datasets.records import Dropped
from streams.cli import app
from tests.data import DATA, needs
from tests.offline_training.datasets.made import EVENTS, ITEMS, LOST, SOURCES, USERS, pictures
from tests.offline_training.datasets.zips import write_zip
from tests.streams.warm.shop import open_shop

pytestmark = pytest.mark.training

TRAIN_PAGES = Path(__file__).parents[2] / "docs" / "train"
SETTINGS = {"TASTESTREAM_FETCH_ALLOW_NETWORKS": "127.0.0.0/8"}


def page(name: str) -> str:
    return (TRAIN_PAGES / name).read_text()


def commands(name: str, about: str) -> list[list[str]]:
    """The arguments of the `tastestream` commands on a page that contain `about`."""
    lines = re.findall(r"^    tastestream (.*)$", page(name), re.MULTILINE)
    return [shlex.split(line) for line in lines if about in line]


PREPARE = {command[command.index("--out") + 1]: command for command in commands("data-sets.md", "--out data/")}
TRAIN = commands("your-shop.md", "data/shop")


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb", **SETTINGS}).invoke(app, arguments)


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_pages_show_each_form_and_all_steps() -> None:
    assert [*PREPARE, "data/shop"] == [f"data/{name}" for name in SOURCES]
    assert [" ".join(command[:2]) for command in TRAIN] == [
        "dataset tables", "train embed", "train bundle", "evaluate bundles/shop"
    ]  # fmt: skip


@pytest.mark.slow  # test_shop.py runs the same commands by themselves
@pytest.mark.parametrize("name", ["shop", *(name for name in SOURCES if name != "shop")])
def test_the_commands_lead_from_a_data_set_to_figures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_shop() as shop:
        shop.pictures |= {item: picture for item, picture in pictures().items() if item != LOST}
        SOURCES[name](tmp_path, shop.url)
        dataset, *train = TRAIN
        train = [
            [one.replace("data/shop", f"data/{name}").replace("/shop", f"/{name}") for one in command]
            for command in train
        ]
        said = [done(*command) for command in (PREPARE.get(f"data/{name}", dataset), *train)]
    assert f"{USERS}, {len(ITEMS)}, {USERS * EVENTS:,}" in said[0]
    assert re.search(rf"(not_a_picture|http_status) 1, the first: {LOST}: ", said[1])
    [score] = re.findall(r"^ +MAP +([\d.]+)", said[-1], re.MULTILINE)
    assert float(score) > 0.9
    made = Bundle.load(tmp_path / "bundles" / name)
    assert len(made.categories) == 3
    assert "is intact" in done("bundle", "check", f"bundles/{name}")


def test_pictures_stay_in_their_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SOURCES["beauty"](tmp_path, "")
    write_zip(Path("images.zip"), {f"women/{path.name}": path.read_bytes() for path in Path("images").iterdir()})
    command = [one.replace("images", "images.zip") for one in PREPARE["data/beauty"]]
    assert f"{USERS}, {len(ITEMS)}, {USERS * EVENTS:,}" in done(*command)
    found = done("train", "embed", "data/beauty", "--out", "embeddings.npz")
    assert f"not_a_picture 1, the first: {LOST}: {tmp_path}/images.zip!/women/{LOST}.jpg: " in found
    with np.load("embeddings.npz") as packed:
        assert sorted(packed["ids"].tolist()) == sorted(set(ITEMS) - {LOST})
    assert not [path for path in tmp_path.rglob("*.jpg") if "images" not in path.parts]

    monkeypatch.setitem(SETTINGS, "TASTESTREAM_FETCH_MAX_BYTES", "1024")
    tight = run("train", "embed", "data/beauty", "--out", "other.npz")
    too_large = sum(len(picture) > 1024 for item, picture in pictures().items() if item != LOST)
    assert f"picture_too_large {too_large}, the first: " in tight.output


@needs("amazon")
def test_the_shown_output_is_that_of_the_real_excerpt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Magazine_Subscriptions_5.json.gz", "meta_Magazine_Subscriptions.json.gz"):
        (tmp_path / name).symlink_to(DATA / "amazon" / name)
    said = done(*PREPARE["data/magazines"])
    shown = re.findall(r"^│ (\S.*?) +│ (\d[\d, ]*\d|\d)", page("data-sets.md"), re.MULTILINE)
    assert len(shown) >= 4
    for what, figures in shown:
        assert re.search(rf"│ {what} +│ {figures}\b", said), what


@needs("amazon")
@pytest.mark.parametrize("name", ["meta_2014_real.txt", "meta_2023_real.jsonl", "meta_Gift_Cards_sample.json"])
def test_real_metadata_of_each_generation_becomes_a_data_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The excerpts have no reviews, so the test makes some."""
    monkeypatch.chdir(tmp_path)
    metadata = DATA / "amazon" / name
    items = {one.item: one for one in Amazon([], [metadata], ALL_PURCHASES).items(Dropped())}
    reviews = [{"reviewerID": "A1", "asin": item, "overall": 5, "unixReviewTime": 1_393_372_800} for item in items]
    Path("reviews.json.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, reviews)).encode()))
    arguments = ("--metadata", str(metadata), "--out", "out", "--levels", "1-4", "--min-items", "1", "--pictureless")
    done("dataset", "amazon", "--reviews", "reviews.json.gz", *arguments)
    summary = json.loads(Path("out/dataset.json").read_text())
    assert summary["items"] == sum(bool(one.paths) for one in items.values()) > 0
    assert summary["events"] == summary["items"]
