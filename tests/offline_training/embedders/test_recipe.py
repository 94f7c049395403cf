"""The command: from a folder of pictures to files that a bundle takes, and a report that adds up."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="needs the extra `train`")

import torchvision  # noqa: E402

from model.bundle import file_sha256  # noqa: E402
from model.embedder import Embedder  # noqa: E402
from model.sessions import open_session  # noqa: E402
from offline_training.cli import train_app as app  # noqa: E402
from offline_training.embedders import cli, recipe  # noqa: E402
from offline_training.embedders.backbones import Backbone  # noqa: E402
from offline_training.embedders.recipe import FinetuningOptions, Report, device_of  # noqa: E402
from tests.offline_training.embedders import small  # noqa: E402

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


def report_of(out: Path) -> Report:
    return msgspec.json.decode((out / recipe.REPORT).read_bytes(), type=Report)


def test_the_command_writes_an_int8_embedder_a_float_one_and_a_report(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "weights.pth")
    out = tmp_path / "out"
    options = ("--backbone", "v3-small", "--weights", tmp_path / "weights.pth", "--data", photos, "--out", out)
    done = run(*options, "--blocks", 1, "--epochs", 1, "--views", 1, "--work", tmp_path / "work")
    assert done.exit_code == 0, done.output
    for title in cli.KINDS.values():
        assert title in done.output
    report = report_of(out)
    assert (report.trained_blocks, report.embedding_size, report.best_epoch) == (1, 576, 1)
    assert report.categories["blue"] == {"train": 4, "validation": 2, "test": 2}
    for name, sha256 in report.files.items():
        assert file_sha256(out / name) == sha256
        embedder = Embedder(open_session(out / name, 1), 224, 576, "")
        assert embedder.embed(np.zeros((2, 224, 224, 3), np.uint8)).shape == (2, 576)


@pytest.fixture
def with_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> Backbone:
        return small.backbone()

    monkeypatch.setattr("offline_training.embedders.backbones.load_backbone", load)


@pytest.mark.usefixtures("with_small_network")
@pytest.mark.parametrize(
    ("options", "trained"),
    [(("--unfreeze", "frozen"), 0), (("--blocks", 2), 2), (("--unfreeze", "all"), 3)],
    ids=["frozen", "last", "all"],
)
def test_each_way_of_unfreezing_ends_with_figures_that_add_up(
    photos: Path, tmp_path: Path, options: tuple[Any, ...], trained: int
) -> None:
    common = ("--backbone", "v1", "--data", photos, "--out", tmp_path / "out", "--work", tmp_path / "work")
    done = run(*common, *options, "--epochs", 2, "--batch", 4, "--views", 2)
    assert done.exit_code == 0, done.output
    report = report_of(tmp_path / "out")
    test = report.figures["test"]
    assert report.trained_blocks == trained
    assert report.gain == pytest.approx(100 * (test["after"].accuracy - test["before"].accuracy), abs=0.01)
    assert report.int8_loss == pytest.approx(100 * (test["after"].accuracy - test["after_int8"].accuracy), abs=0.01)
    assert test["after"].accuracy == 1  # colours are easy
    if options == ("--unfreeze", "frozen"):
        assert test["after"] == test["before"]  # the embeddings are the same


@pytest.mark.usefixtures("with_small_network")
def test_a_command_that_is_resumed_ends_with_the_same_report(photos: Path, tmp_path: Path) -> None:
    common = ("--backbone", "v1", "--data", photos, "--work", tmp_path / "work", "--blocks", 1, "--epochs", 2)
    assert run(*common, "--out", tmp_path / "out").exit_code == 0
    first = report_of(tmp_path / "out")
    (tmp_path / "out" / recipe.REPORT).unlink()
    assert run(*common, "--out", tmp_path / "out", "--resume").exit_code == 0
    assert report_of(tmp_path / "out") == first


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
def test_options_that_make_no_sense_end_in_one_line(
    photos: Path, tmp_path: Path, options: tuple[Any, ...], expected: str
) -> None:
    done = run("--backbone", "v1", "--data", photos, "--out", tmp_path / "out", *options)
    assert done.exit_code == 1
    assert expected in done.output and "Traceback" not in done.output


def test_without_weights_the_command_says_so_in_one_line(photos: Path, tmp_path: Path) -> None:
    done = run("--backbone", "v1", "--data", photos, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "--backbone v1 needs --weights FILE" in done.output and "Traceback" not in done.output


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"


@pytest.mark.parametrize(
    ("options", "cut"),
    [(FinetuningOptions("frozen"), 3), (FinetuningOptions("last", 1), 2), (FinetuningOptions("all"), 0)],
)
def test_the_cut_is_the_number_of_blocks_that_stay(options: FinetuningOptions, cut: int) -> None:
    assert options.cut(small.backbone()) == cut
