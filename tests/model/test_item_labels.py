"""The categories of an item from its stored embedding: whole numbers that do not depend on the batch; files of strangers."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from model.bundle import LABELS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import Manifest, encode
from model.exceptions import BundleError
from model.item_labels import ItemLabels
from model.quantization import dequantize, quantize
from tests.bundles import write_trending


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_trending(tmp_path_factory.mktemp("bundles") / "trending"))


def rows(count: int, size: int) -> list[bytes]:
    rng = np.random.default_rng(count)
    return [quantize(row) for row in rng.normal(0, 2, (count, size)).astype(np.float32)]


def test_labels_equal_a_softmax_in_floats_for_each_field(bundle: Bundle) -> None:
    labels = bundle.item_labels()
    assert labels is not None
    some = rows(50, bundle.embedding_size)
    with np.load(bundle.path / LABELS) as file:
        logits = dequantize(some, bundle.embedding_size).astype(np.float64) @ file["weights"].T * file["scales"]
    found = labels.of(some)
    for field in bundle.fields:
        own = np.exp(logits[:, field.categories])
        assert np.abs(found[:, field.categories] - 100 * own / own.sum(axis=1, keepdims=True)).max() <= 0.51
    assert found.dtype == np.int64


def test_a_batch_counts_exactly_as_its_rows_do_alone(bundle: Bundle) -> None:
    labels = bundle.item_labels()
    assert labels is not None
    some = rows(300, bundle.embedding_size)
    assert (labels.of(some) == np.concatenate([labels.of([row]) for row in some])).all()


def test_the_labels_version_changes_with_the_labels(bundle: Bundle, tmp_path: Path) -> None:
    other = changed(bundle, tmp_path / "other", {"biases": np.ones(len(bundle.categories))})
    assert bundle.labels_version and Bundle.load(other).labels_version not in {"", bundle.labels_version}
    assert not Bundle.load().labels_version and Bundle.load().item_labels() is None


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"weights": np.zeros((96, 5), np.int8)}, "weights"),
        ({"scales": np.full(96, np.nan)}, "finite"),
        ({"category": np.zeros(96, np.int32)}, "once"),
        ({"biases": np.zeros(96, np.float32)}, "biases"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    bundle: Bundle, tmp_path: Path, arrays: dict[str, np.ndarray], what: str
) -> None:
    with pytest.raises(BundleError, match=what):
        Bundle.load(changed(bundle, tmp_path / "bad", arrays))


def test_compressed_arrays_are_refused_before_they_are_read(bundle: Bundle, tmp_path: Path) -> None:
    path = changed(bundle, tmp_path / "bomb", {}, compressed=True)
    with pytest.raises(BundleError, match="compressed"):
        Bundle.load(path)


def changed(bundle: Bundle, folder: Path, arrays: dict[str, np.ndarray], *, compressed: bool = False) -> Path:
    write_trending(folder)
    with np.load(bundle.path / LABELS) as file:
        content = {name: file[name] for name in file.files} | arrays
    (np.savez_compressed if compressed else np.savez)(folder / LABELS, allow_pickle=False, **content)
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    files = {name: file_sha256(folder / name) for name in manifest.files}
    renamed = msgspec.structs.replace(manifest, files=files)
    (folder / MANIFEST).write_bytes(encode(renamed))
    return folder


def test_outputs_count_for_their_own_category_in_whatever_order_groups_and_single_outputs_are() -> None:
    rng = np.random.default_rng(7)
    weights, scales = rng.integers(-127, 128, (7, 5)).astype(np.int8), rng.uniform(0.001, 0.02, 7)
    biases = rng.normal(0, 1, 7)
    category = np.array([2, 4, -1, 0, 5, 1, 3], np.int32)  # output 2 is none of the categories of group 1
    group = np.array([1, -1, 1, 0, 1, 0, -1], np.int32)
    labels = ItemLabels(weights=weights, scales=scales, biases=biases, category=category, group=group, categories=6)
    some = rows(150, 5)
    logits = dequantize(some, 5).astype(np.float64) @ weights.T * scales + biases
    expected = np.empty((len(some), 6))
    for output, place in enumerate(category):
        own = group == group[output]
        share = np.exp(logits[:, output])
        share /= 1 + share if group[output] < 0 else np.exp(logits[:, own]).sum(axis=1)
        if place >= 0:
            expected[:, place] = 100 * share
    assert np.abs(labels.of(some) - expected).max() <= 0.51
