"""From a folder of classes to a bundle that names them, and says how sure it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

import torch
from PIL import Image

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import as_stored
from offline_training.bundles.classes import bundle
from offline_training.bundles.classes.bundle import make_class_bundle
from offline_training.bundles.classes.folder import ClassPictures
from offline_training.bundles.classes.head import FOLDS, STRENGTHS, Share, deal, fit_head, in_words, sureness
from tests.offline_training.bundles.small_shop import KINDS, done, run
from tests.offline_training.silent import step

pytestmark = pytest.mark.training


@pytest.fixture(scope="module", autouse=True)
def few_users() -> Iterator[None]:
    """Simulate a tenth of the users: there are only three classes to learn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "USERS", bundle.USERS // 10)
        yield


def photo(kind: str, rng: np.random.Generator) -> Image.Image:
    pixels = np.array(KINDS[kind]) + rng.normal(0, 25, (64, 64, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of each of three colours."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("classes")
    for kind in KINDS:
        (folder / kind).mkdir()
        for number in range(5):
            photo(kind, rng).save(folder / kind / f"{number}.jpg")
    return folder


def test_five_pictures_of_each_class_make_a_bundle_that_names_new_ones(folder: Path, tmp_path: Path) -> None:
    said = run("train", "bundle", folder, "--out", tmp_path / "made", "--name", "colours")
    assert said.exit_code == 0, said.output
    assert "names the class of 15 of 15 pictures that it has not learned from: 1.00, 95 % interval 0.80 to 1.00" in (
        said.output
    )
    made = Bundle.load(tmp_path / "made")
    assert made.categories == tuple(sorted(KINDS))
    assert made.backbone_version == Bundle.load().backbone_version
    rng = np.random.default_rng(9)
    for kind in KINDS:
        photo(kind, rng).save(tmp_path / "new.jpg")
        picture = decode_picture((tmp_path / "new.jpg").read_bytes(), made.image_size)
        code = as_stored(made.embedder().embed(picture[None]))
        scores = made.aggregator().score(code[None], np.zeros((1, 1), np.float32)).scores[0]
        assert made.categories[int(scores.argmax())] == kind
    assert re.fullmatch(r"\d{4}\.\d\d\.\d\d-[0-9a-f]{8}", made.version)
    assert made.manifest.training.date[:10].replace("-", ".") == made.version[:10]
    shown = done("bundle", "show", tmp_path / "made")
    assert f"learnt from 15 pictures, without events: {folder.name}" in shown
    measured = made.manifest.metrics
    assert measured["pictures not learned from"]["accuracy low"] == pytest.approx(0.796, abs=0.001)
    assert measured["simulated users"]["recall@1"] > 0.5


def test_few_pictures_and_what_was_left_out_are_said(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for kind, count in (("red", 2), ("green", 6)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for number in range(count):
            photo(kind, rng).save(tmp_path / "set" / kind / f"{number}.jpg")
    (tmp_path / "set" / "green" / "broken.jpg").write_bytes(b"x")
    said = run("train", "bundle", tmp_path / "set", "--out", tmp_path / "made")
    assert said.exit_code == 0, said.output
    assert "fewer than 5 pictures: red 2" in said.output
    assert "not_a_picture 1, the first: green/broken.jpg" in said.output


def test_options_that_do_not_fit_are_refused_in_one_line(folder: Path, shop: Path, tmp_path: Path) -> None:
    for arguments, complaint in (
        ((shop / "set",), "a prepared data set needs --embeddings"),
        ((tmp_path / "gone",), "gone: there is no such folder"),
        ((folder, "--adapts", shop), "--adapts needs --embeddings"),
        ((folder, "--aggregator", "nan"), "--aggregator needs --embeddings"),
    ):
        said = run("train", "bundle", *arguments, "--out", tmp_path / "made")
        assert said.exit_code == 1
        assert complaint in said.output
        assert "Traceback" not in said.output
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(5, 5, 0.566, 1), (0, 5, 0, 0.434), (33, 50, 0.522, 0.776), (500, 1000, 0.469, 0.531)],
)
def test_the_interval_is_wide_for_few_and_never_empty(hits: int, count: int, low: float, high: float) -> None:
    share = Share.of(hits, count)
    assert share.value == hits / count
    assert (share.low, share.high) == pytest.approx((low, high), abs=0.001)


def test_each_class_is_dealt_evenly_into_the_folds() -> None:
    numbers = np.repeat([0, 1, 2], [5, 12, 2])
    folds = deal(numbers, seed=3)
    for number, most in ((0, 1), (1, 3), (2, 1)):
        assert np.bincount(folds[numbers == number], minlength=FOLDS).max() == most
    assert not np.array_equal(folds, deal(numbers, seed=4))


def test_what_it_says_of_itself_is_chance_where_there_is_nothing_to_learn() -> None:
    """Features that have nothing to do with the classes are learned by heart."""
    rng = np.random.default_rng(0)
    numbers = np.repeat([0, 1, 2, 3], 15)
    pictures = ClassPictures(list("abcd"), [""] * 60, numbers, rng.normal(size=(60, 256)).astype(np.float32))
    head = fit_head(pictures, seed=0, advance=lambda _: None)
    by_heart = head.classifier.logits(torch.from_numpy(pictures.features)).argmax(1).numpy()
    assert (by_heart == numbers).mean() > 0.9
    measured = sureness(pictures, head.held_out)
    assert measured["accuracy low"] < 0.25 < measured["accuracy high"]
    assert head.strength == STRENGTHS[0], "the strongest penalty is least wrong"


def test_the_aggregator_trusts_pictures_less_that_the_layer_names_badly(tmp_path: Path) -> None:
    """Its scores of one picture are lower where the classes cannot be told apart, however sure the layer is of what it has seen."""
    rng = np.random.default_rng(1)
    numbers = np.repeat([0, 1, 2], 12)
    noise = rng.normal(size=(36, 1024)).astype(np.float32)
    best: list[float] = []
    for name, distance in (("clear", 8.0), ("blurred", 0.0)):
        features = noise.copy()
        features[np.arange(36), numbers] += distance * 10
        pictures = ClassPictures(list("abc"), [""] * 36, numbers, np.abs(features))
        made, head = make_class_bundle(
            base=Bundle.load(), pictures=pictures, name=name, version="1", command="", seed=0, out=tmp_path / name, step=step,
        )  # fmt: skip
        code = head.classifier.logits(torch.from_numpy(pictures.features)).detach().numpy()
        scored = made.aggregator().score(as_stored(code)[:, None], np.zeros((36, 1), np.float32))
        best.append(float(scored.scores.max(1).mean()))
    assert best[0] > best[1] + 0.1, best


def test_the_words_name_the_class_that_is_known_least_and_what_it_is_taken_for() -> None:
    numbers = np.array([0, 0, 1, 1, 1])
    pictures = ClassPictures(["hat", "shoe"], [""] * 5, numbers, np.zeros((5, 1), np.float32))
    held_out = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [0, 1]], np.float32)
    assert "Named least: hat, 1 of 2, most often taken for shoe" in in_words(pictures, held_out)
    measured = sureness(pictures, held_out)
    assert (measured["accuracy"], measured["macro accuracy"], measured["largest class"]) == (0.8, 0.75, 0.6)
    assert measured["fewest pictures of a class"] == 2
