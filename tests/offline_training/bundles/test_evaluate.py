"""`tastestream evaluate` measures a bundle on an installation without torch, and says which extra is missing without pyarrow."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import SUMMARY, prepare
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One item of each category of the shipped bundle, and users who take three of them; with embeddings.npz."""
    folder, bundle = tmp_path_factory.mktemp("shop"), Bundle.load()
    chance, rng = random.Random(0), np.random.default_rng(0)
    items = [DatasetItem(str(number), None, ((category,),)) for number, category in enumerate(bundle.categories)]
    events = [
        DatasetEvent(f"user-{user}", item.item, "purchase", time)
        for user in range(USERS)
        for time, item in enumerate([items[user % len(items)], *chance.sample(items, 2)])
    ]
    rule = LabelRule(1, 1, 1, 100)
    prepare(Given(events, items), "shop", folder, rule=rule, pictures=None, step=no_step, pictureless=True)
    labels = list(json.loads((folder / SUMMARY).read_text())["labels"])
    assert set(labels) == set(bundle.categories)
    assert labels != list(bundle.categories), "the order of the labels must not matter"
    embeddings = rng.normal(size=(len(items), bundle.backbone().feature_size)).astype(np.float32)
    np.savez(folder / "embeddings.npz", ids=np.array([item.item for item in items]), embeddings=embeddings)
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
    for figure in ("micro F1", "threshold", "MAP", "users"):
        [shown] = re.findall(rf"^. {figure} +. ([\d.,]+)", done.stdout, re.MULTILINE)
        assert float(shown) == pytest.approx(expected[figure], abs=1e-4), figure


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
