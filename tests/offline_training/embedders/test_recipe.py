"""`tastestream train embedder`: from a folder of pictures to ONNX files for a bundle, and a consistent report."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="needs the extra `train`")

import torchvision  # noqa: E402

from model.bundle import file_sha256  # noqa: E402
from model.embedder import WholeEmbedder  # noqa: E402
from model.sessions import open_session  # noqa: E402
from offline_training.cli import train_app as app  # noqa: E402
from offline_training.embedders import cli, recipe  # noqa: E402
from offline_training.embedders.backbones.backbones import Backbone  # noqa: E402
from offline_training.embedders.recipe import EmbedderReport, FinetuningOptions, device_of  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

pytestmark = pytest.mark.training

COUNTS = {
    "train": dict.fromkeys(small.COLOURS, 4),
    "val": dict.fromkeys(small.COLOURS, 2),
    "test": {"blue": 2, "red": 1},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.photos(tmp_path_factory.mktemp("data") / "colours", COUNTS)


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["embedder", *map(str, arguments)])


def report_of(out: Path) -> EmbedderReport:
    return msgspec.json.decode((out / recipe.REPORT).read_bytes(), type=EmbedderReport)


@pytest.mark.slow
def test_the_command_writes_an_int8_embedder_a_float_one_and_a_report(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "weights.pth")
    out = tmp_path / "out"
    options = ("--backbone", "v3-small", "--weights", tmp_path / "weights.pth", "--data", photos, "--out", out)
    done = run(*options, "--blocks", 1, "--epochs", 1, "--views", 1, "--work", tmp_path / "work")
    assert done.exit_code == 0, done.output
    for title in cli.CLASSIFIERS.values():
        assert title in done.output
    report = report_of(out)
    assert (report.trained_blocks, report.embedding_size, report.best_epoch) == (1, 576, 1)
    assert report.categories["blue"] == {"train": 4, "validation": 2, "test": 2}
    for name, sha256 in report.files.items():
        assert file_sha256(out / name) == sha256
        embedder = WholeEmbedder(open_session(out / name, 1), 224, 576, "")
        assert embedder.embed(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 576)


@pytest.fixture
def with_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> Backbone:
        return small.backbone()

    monkeypatch.setattr("offline_training.embedders.backbones.backbones.load_backbone", load)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the finished runs by name, and of the cached activations."""
    return tmp_path_factory.mktemp("work")


UNFREEZE: dict[str, tuple[Any, ...]] = {
    "frozen": ("--unfreeze", "frozen"),
    "last": ("--blocks", 2),
    "all": ("--unfreeze", "all"),
}


def small_run(photos: Path, work: Path, unfreeze: str, *options: object) -> EmbedderReport:
    """Run the command in the folder of this way of unfreezing, unless it is finished already."""
    out = work / unfreeze
    if options or not (out / recipe.REPORT).exists():
        common = ("--backbone", "v1", "--data", photos, "--out", out, "--work", work, *UNFREEZE[unfreeze])
        done = run(*common, "--epochs", 2, "--batch", 4, "--views", 2, *options)
        assert done.exit_code == 0, done.output
    return report_of(out)


@pytest.mark.usefixtures("with_small_network")
@pytest.mark.parametrize(("unfreeze", "trained"), [("frozen", 0), ("last", 2), ("all", 3)])
def test_the_report_is_consistent_for_each_way_of_unfreezing(
    photos: Path, work: Path, unfreeze: str, trained: int
) -> None:
    report = small_run(photos, work, unfreeze)
    test = report.figures["test"]
    assert report.trained_blocks == trained
    assert report.gain == pytest.approx(100 * (test["after"].accuracy - test["before"].accuracy), abs=0.01)
    assert report.int8_loss == pytest.approx(100 * (test["after"].accuracy - test["after_int8"].accuracy), abs=0.01)
    assert test["after"].accuracy == 1  # colours are easy
    if unfreeze == "frozen":
        assert test["after"] == test["before"]  # the embeddings are the same


@pytest.mark.usefixtures("with_small_network")
def test_a_resumed_command_ends_with_the_same_report(photos: Path, work: Path) -> None:
    first = small_run(photos, work, "last")
    (work / "last" / recipe.REPORT).unlink()
    assert small_run(photos, work, "last", "--resume") == first


@pytest.mark.usefixtures("with_small_network")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--unfreeze", "some"), "--unfreeze 'some': expected one of frozen, last, all"),
        (("--blocks", 4), "--blocks 4: small has blocks 1 to 3"),
        (("--device", "tpu", "--blocks", 1), "--device 'tpu': expected auto, cpu or cuda"),
        (("--data", "nowhere"), "--data nowhere: there is no such folder"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    photos: Path, tmp_path: Path, options: tuple[Any, ...], expected: str
) -> None:
    done = run("--backbone", "v1", "--data", photos, "--out", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert expected in done.output and "Traceback" not in done.output


def test_missing_weights_are_refused_in_one_line(photos: Path, tmp_path: Path) -> None:
    done = run("--backbone", "v1", "--data", photos, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "--backbone v1 needs --weights FILE" in done.output and "Traceback" not in done.output


def test_auto_is_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"


@pytest.mark.parametrize(
    ("options", "cut"),
    [(FinetuningOptions("frozen"), 3), (FinetuningOptions("last", 1), 2), (FinetuningOptions("all"), 0)],
)
def test_the_cut_is_the_number_of_frozen_blocks(options: FinetuningOptions, cut: int) -> None:
    assert options.cut(small.backbone()) == cut
