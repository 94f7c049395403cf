"""`tastestream evaluate` measures a bundle on an installation without torch, and says which extra is missing without pyarrow."""

import json
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.parquet import DAY, parquet_module
from offline_training.datasets.prepare import EVENTS, SUMMARY, prepare
from offline_training.datasets.records import DatasetEvent, DatasetItem
from offline_training.tasks.catalogue import read_catalogue
from offline_training.tasks.evaluation import codes_of, evaluate
from offline_training.tasks.split import make_split, read_histories
from tests.offline_training.datasets.sources import Given, no_step

HIDDEN = ("torch", "torchvision", "onnx", "onnxscript")
"""Packages that the extra `train` brings and the extra `evaluate` does not."""
USERS = 150


def tastestream(*arguments: object, hidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import the `hidden` packages."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"sys.argv = {['tastestream', *map(str, arguments)]!r}\n"
        "from streams.cli import main\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def write_shop(folder: Path, users: range, *, apart: int = 1) -> None:
    """Prepare a shop with one item of each category of the shipped bundle, and users who take five of them, so many ms apart."""
    chance, bundle = random.Random(0), Bundle.load()
    items = [DatasetItem(str(number), None, ((category,),)) for number, category in enumerate(bundle.categories)]
    events = [
        DatasetEvent(f"user-{user}", item.item, "purchase", apart * time)
        for user in users
        for time, item in enumerate([items[user % len(items)], *chance.sample(items, 4)])
    ]
    rule = LabelRule(1, 1, 1, 100)
    prepare(
        Given(events, items), "shop", folder, rule=rule, pictures=None, step=no_step, pictureless=True, untouched=True
    )
    size = bundle.backbone().feature_size
    embeddings = np.random.default_rng(0).normal(size=(len(items), size)).astype(np.float32)
    np.savez(folder / "embeddings.npz", ids=np.array([item.item for item in items]), embeddings=embeddings)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, bundle = tmp_path_factory.mktemp("shop"), Bundle.load()
    write_shop(folder, range(USERS))
    labels = list(json.loads((folder / SUMMARY).read_text())["labels"])
    assert set(labels) == set(bundle.categories)
    assert labels != list(bundle.categories), "the order of the labels must not matter"
    return folder


def test_a_bundle_is_measured_without_torch(dataset: Path) -> None:
    embeddings = dataset / "embeddings.npz"
    arguments = ("evaluate", Bundle.load().path, dataset, "--embeddings", embeddings, "--task", "profile")
    done = tastestream(*arguments, hidden=HIDDEN)
    assert done.returncode == 0, done.stderr
    bundle, catalogue = Bundle.load(), read_catalogue(dataset, embeddings)
    catalogue = catalogue.with_labels_in_order(bundle.categories)
    split = make_split("profile", read_histories(dataset, catalogue), catalogue)
    expected = evaluate(bundle, split, codes_of(bundle.split_embedder(), catalogue.embeddings))
    for figure in ("recall@5", "micro F1", "MAP"):
        [shown] = re.findall(rf"^ +{figure} +([\d.]+)", done.stdout, re.MULTILINE)
        assert float(shown) == pytest.approx(expected[figure], abs=1e-3), figure
    assert f"profile: {expected['users']:.0f} held-out users" in done.stdout
    assert re.search(r"The bundle is (ahead of|behind) popularity by .* in micro F1, which is", done.stdout)
    assert "rounded precision" not in done.stdout


def test_without_pyarrow_it_names_the_extra_to_install(dataset: Path) -> None:
    done = tastestream("evaluate", "bundle", dataset, "--embeddings", "none.npz", hidden=("pyarrow",))
    assert done.returncode == 2
    assert "evaluate needs pyarrow: pip install 'tastestream[evaluate]'" in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_a_training_command_without_its_extra_names_it(tmp_path: Path, module: str) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    done = tastestream("train", "report", tmp_path, hidden=(module,))
    assert done.returncode == 2
    assert f"train needs {module}: pip install 'tastestream[train]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_task_that_the_data_cannot_answer_is_left_out_unless_it_is_asked_for(dataset: Path) -> None:
    """The users of the shop took everything on one day, so no purchase has a day before it."""
    table = parquet_module().read_table(dataset / EVENTS)
    assert len({time // DAY for time in table["time"].to_pylist()}) == 1
    arguments = ("evaluate", Bundle.load().path, dataset, "--embeddings", dataset / "embeddings.npz")
    asked = tastestream(*arguments, "--task", "purchases", hidden=HIDDEN)
    assert asked.returncode == 1
    assert "error: task purchases: no purchase for" in asked.stderr
    every = tastestream(*arguments, hidden=HIDDEN)
    assert every.returncode == 0, every.stderr
    assert "left out: task purchases: no purchase for" in every.stderr
    for task in ("profile", "unseen", "next"):
        assert f"{task}: " in every.stdout


@pytest.mark.slow
def test_users_that_are_set_apart_are_measured_by_themselves_with_their_first_purchases(tmp_path: Path) -> None:
    write_shop(tmp_path / "all", range(USERS), apart=DAY)
    write_shop(tmp_path / "some", range(20), apart=DAY)
    arguments = ("evaluate", Bundle.load().path, tmp_path / "all", "--embeddings", tmp_path / "all" / "embeddings.npz")
    done = tastestream(*arguments, "--task", "purchases", "--apart", tmp_path / "some", hidden=HIDDEN)
    assert done.returncode == 0, done.stderr
    others = sum(zlib.crc32(f"user-{user}".encode()) % 10 == 0 for user in range(20, USERS))
    assert f"purchases: {4 * others} purchases of {others} held-out users" in done.stdout
    assert "purchases: 100 purchases of 20 users that are set apart" in done.stdout
    assert done.stdout.count("the 28-day trend by") == 2
    missing = tastestream(*arguments, "--task", "purchases", "--apart", tmp_path / "none", hidden=HIDDEN)
    assert missing.returncode == 1
    assert "there is no such file: `tastestream dataset` creates the folder" in " ".join(missing.stderr.split())
