"""`train bundle --adapts`: the new bundle takes embeddings of an older one, and says what that costs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import ADAPTER, Bundle
from model.quantization import quantize_all
from offline_training.tasks.catalogue import read_embeddings
from offline_training.tasks.evaluation import codes_of
from tests.model.bundle.early import write_early
from tests.model.bundle.networks import write_colours
from tests.offline_training.bundles.small_shop import EACH, KINDS, done, run, write_shop

pytestmark = [pytest.mark.training, pytest.mark.slow]

TRAIN = ("train", "bundle")
ITEMS = EACH * len(KINDS)


@pytest.fixture(scope="module")
def adapted(shop: Path, trained: Path, embeddings: Path) -> Path:
    """A bundle with another item network than `trained`, which takes its codes."""
    old, out = Bundle.load(trained), shop / "adapted"
    said = done(*TRAIN, shop / "set", "--embeddings", embeddings, "--seed", 1, "--adapts", trained, "--out", out)
    assert f"adapts embedder {old.embedder_version} (colours 1.0.0): " in said
    assert f"fitted on {ITEMS} pictures" in said
    assert "test/next, adapted codes" in Bundle.load(out).manifest.metrics
    assert re.search(
        r"micro F1 by codes: [\d.]+ native, [\d.]+ adapted \(\S+ \[\S+, \S+\]\), [\d.]+ untouched \(\S+ \[\S+, \S+\]\)$",
        said.rstrip(),
    )
    return out


def test_codes_of_the_older_bundle_become_those_of_the_new_one(trained: Path, adapted: Path, embeddings: Path) -> None:
    old, new = Bundle.load(trained), Bundle.load(adapted)
    _, features = read_embeddings(embeddings)
    before, native = (codes_of(one.split_embedder(), features) for one in (old, new))
    adapter = new.adapter(old.embedder_version)
    assert adapter is not None
    found = adapter.embed(quantize_all(before))
    spread = np.square(native - native.mean(0)).sum()
    assert np.square(found - native).sum() < 0.2 * spread
    assert np.square(before - native).sum() > spread


def test_an_adapter_leaves_the_rest_of_the_bundle_as_it_is(
    shop: Path, adapted: Path, embeddings: Path, tmp_path: Path
) -> None:
    done(*TRAIN, shop / "set", "--embeddings", embeddings, "--seed", 1, "--out", tmp_path / "plain")
    plain, with_adapter = Bundle.load(tmp_path / "plain").manifest, Bundle.load(adapted).manifest
    assert with_adapter.files == plain.files | {ADAPTER: with_adapter.files[ADAPTER]}
    assert (with_adapter.embedder_version, with_adapter.backbone_version) == (
        plain.embedder_version,
        plain.backbone_version,
    )
    assert with_adapter.metrics.items() > plain.metrics.items()


def test_the_manifest_says_what_adapted_codes_cost_the_held_out_users(adapted: Path) -> None:
    measured = Bundle.load(adapted).manifest.metrics
    native, by_adapter, untouched = (
        measured[f"test/next, {kind} codes"] for kind in ("native", "adapted", "untouched")
    )
    assert native["micro F1"] == pytest.approx(measured["test/next"]["micro F1"], abs=1e-3)
    assert native["threshold"] == by_adapter["threshold"] == untouched["threshold"]
    assert native["users"] == by_adapter["users"] == untouched["users"] == measured["test/next"]["users"]
    for group in (by_adapter, untouched):
        for figure in ("micro F1", "precision@1"):
            difference = group[f"{figure} - native"]
            assert difference == pytest.approx(group[figure] - native[figure], abs=2e-4)
            assert group[f"{figure} - native low"] <= difference <= group[f"{figure} - native high"]
    assert by_adapter["micro F1 - native"] > -0.05
    assert untouched["micro F1 - native high"] < by_adapter["micro F1 - native low"]
    assert set(measured["validation/next, loss by adapter"]) == {"native", "rotation", "affine", "residual"}


def test_a_bundle_with_the_same_embedder_needs_no_adapter(
    shop: Path, trained: Path, adapted: Path, embeddings: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(adapted, tmp_path / "again"))  # has an adapter, which must not stay
    said = done(*TRAIN, shop / "set", "--embeddings", embeddings, "--adapts", trained, "--out", out)
    assert f"no adapter: {trained} has the same embedder" in said
    assert Bundle.load(out).manifest.adapts is None
    assert not (out / ADAPTER).exists()


@pytest.mark.slow
def test_an_early_bundle_is_adapted_by_the_pictures_that_are_left(trained: Path, tmp_path: Path) -> None:
    write_shop(tmp_path)
    old = Bundle.load(write_early(Bundle.load(trained), tmp_path / "early"))
    done("train", "embed", tmp_path / "set", "--out", tmp_path / "e.npz")
    gone = [tmp_path / f"{kind}{number}.jpg" for kind in KINDS for number in range(2)]
    for picture in gone:
        picture.unlink()
    arguments = (tmp_path / "set", "--embeddings", tmp_path / "e.npz", "--seed", 1, "--adapts", old.path)
    done(*TRAIN, *arguments, "--out", tmp_path / "new")
    filed, vectors = read_embeddings(tmp_path / f"e-{old.embedder_version}.npz")
    assert set(filed) == {f"{kind}{number}" for kind in KINDS for number in range(2, EACH)}
    assert vectors.shape == (ITEMS - len(gone), 128)
    new = Bundle.load(tmp_path / "new")
    assert new.manifest.adapts is not None
    assert new.manifest.adapts.pictures == ITEMS - len(gone)
    adapter = new.adapter(old.embedder_version)
    assert adapter is not None
    assert adapter.embed(quantize_all(vectors)).shape == (len(filed), 128)
    measured = new.manifest.metrics
    assert measured["test/next, adapted codes"]["users"] < measured["test/next"]["users"]


@pytest.mark.slow
def test_a_bundle_with_another_backbone_is_adapted(shop: Path, embeddings: Path, tmp_path: Path) -> None:
    old = write_colours(tmp_path / "old")
    out, filed = tmp_path / "new", tmp_path / "filed.npz"
    arguments = (shop / "set", "--embeddings", embeddings, "--adapts", old.path, "--adapts-embeddings", filed)
    done(*TRAIN, *arguments, "--out", out)
    new = Bundle.load(out)
    adapter = new.adapter(old.embedder_version)
    assert adapter is not None
    assert adapter.from_size == 3
    measured = new.manifest.metrics
    assert measured["test/next, adapted codes"]["micro F1 - native"] > -0.05  # three colours, three categories
    assert "test/next, untouched codes" not in measured


def test_what_cannot_be_adapted_is_refused_in_one_line_before_training(
    shop: Path, trained: Path, embeddings: Path, tmp_path: Path
) -> None:
    ids, features = read_embeddings(embeddings)
    np.savez(tmp_path / "short.npz", ids=np.array(ids), embeddings=features[:, :7])
    np.savez(tmp_path / "two.npz", ids=np.array(ids)[:2], embeddings=features[:2])
    for arguments, complaint in (
        (("--adapts", shop), f"{shop / 'manifest.json'}: expected a bundle's manifest, found nothing"),
        (("--adapts", trained, "--adapts-embeddings", tmp_path / "short.npz"), "short.npz has 7 numbers per item"),
        (("--adapts-embeddings", tmp_path / "two.npz"), "--adapts-embeddings needs --adapts"),
    ):
        refused = run(*TRAIN, shop / "set", "--embeddings", embeddings, "--out", tmp_path / "out", *arguments)
        assert refused.exit_code == 1
        assert complaint in refused.output.replace("\n", " ")
        assert "item network" not in refused.output
        assert "Traceback" not in refused.output
    assert not (tmp_path / "out").exists()
