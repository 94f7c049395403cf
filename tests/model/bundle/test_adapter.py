"""A bundle may have an adapter: it makes embeddings from those of an older bundle. It changes no version."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import helper

from model.bundle import ADAPTER, AGGREGATOR, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import Manifest, content_checksum, encode
from model.exceptions import BundleError
from model.quantization import dequantize, quantize, quantize_all
from tests.model.bundle.adapted import OLD, OLD_SIZE, adapter_of, put_adapter
from tests.model.bundle.early import write_early
from tests.model.bundle.networks import network


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "bundle"))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert "expected" in message
    assert "found" in message
    return message


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))


def test_an_adapter_makes_embeddings_from_rows_of_the_older_bundle(copy: Path, bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(OLD_SIZE, bundle.embedding_size)).astype(np.float32)
    adapter = put_adapter(copy, adapter_of(matrix)).adapter(OLD)
    assert adapter is not None
    assert (adapter.from_embedder_version, adapter.from_size, adapter.embedding_size) == (
        OLD,
        OLD_SIZE,
        bundle.embedding_size,
    )
    rows = quantize_all(rng.normal(size=(7, OLD_SIZE)).astype(np.float32))
    found = adapter.embed(rows)
    assert found.dtype == np.float32
    assert np.allclose(found, dequantize(rows, OLD_SIZE) @ matrix, atol=1e-5)
    assert adapter.embed([]).shape == (0, bundle.embedding_size)


def test_a_row_that_is_not_finite_stays_so_whatever_the_network_makes_of_it(copy: Path) -> None:
    nodes = [
        helper.make_node("IsNaN", ["embedding"], ["unknown"]),
        helper.make_node("Where", ["unknown", "zero", "embedding"], ["known"]),
        helper.make_node("MatMul", ["known", "ones"], ["adapted"]),
    ]
    hiding = network(
        nodes, {"embedding": ["batch", OLD_SIZE]}, {"adapted": ["batch", 163]},
        zero=np.zeros(1, np.float32), ones=np.ones((OLD_SIZE, 163), np.float32),
    )  # fmt: skip
    adapter = put_adapter(copy, hiding).adapter(OLD)
    assert adapter is not None
    values = np.ones((3, OLD_SIZE), np.float32)
    values[1, 2] = np.inf
    found = adapter.embed(quantize_all(values))
    assert np.isnan(found[1]).all()
    assert np.allclose(found[[0, 2]], OLD_SIZE)


def test_a_row_of_another_size_is_refused(copy: Path) -> None:
    adapter = put_adapter(copy).adapter(OLD)
    assert adapter is not None
    with pytest.raises(ValueError, match="row 1 of 2: expected 13 bytes for an embedding of 5, found 14"):
        adapter.embed([quantize(np.ones(5, np.float32)), quantize(np.ones(6, np.float32))])


def test_there_is_no_adapter_from_another_embedder(copy: Path, bundle: Bundle) -> None:
    adapted = put_adapter(copy)
    assert adapted.adapter("ba9876543210") is None
    assert adapted.adapter(adapted.embedder_version) is None
    assert adapted.adapter("") is None
    assert bundle.adapter(OLD) is None


def test_an_adapter_changes_no_version(copy: Path, bundle: Bundle) -> None:
    adapted = put_adapter(copy)
    assert adapted.embedder_version == bundle.embedder_version
    assert adapted.backbone_version == bundle.backbone_version


def test_an_early_bundle_can_have_an_adapter(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_early(bundle, tmp_path / "early")
    version = Bundle.load(folder).embedder_version
    adapted = put_adapter(folder)
    assert adapted.embedder_version == version
    assert adapted.adapter(OLD) is not None


def test_a_manifest_without_an_adapter_is_written_without_the_field(bundle: Bundle) -> None:
    """So that a version of tastestream that does not know the field reads it."""
    written = json.loads(encode(bundle.manifest))
    assert "adapts" not in written
    assert written.keys() == json.loads((bundle.path / MANIFEST).read_text()).keys()


def test_a_manifest_with_an_adapter_is_read_as_it_was_written(copy: Path) -> None:
    adapted = put_adapter(copy)
    assert msgspec.json.decode(encode(adapted.manifest), type=Manifest).adapts == adapted.manifest.adapts
    (copy / MANIFEST).write_bytes(encode(adapted.manifest))
    assert Bundle.load(copy).adapter(OLD) is not None


APART: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m.pop("adapts"), f"a checksum of {ADAPTER}, or neither, found {ADAPTER} alone"),
    (lambda m: m["files"].pop(ADAPTER), f"found adapts alone, for '{OLD}'"),
    (lambda m: m["adapts"].update(embedder_version=""), "expected adapts.embedder_version of another embedder"),
    (
        lambda m: m["adapts"].update(embedder_version=m["embedder_version"]),
        "expected adapts.embedder_version of another embedder than",
    ),
]


@pytest.mark.parametrize(("change", "expected"), APART)
def test_a_manifest_and_its_adapter_belong_together(
    copy: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    put_adapter(copy)
    edit(copy, change)
    message = refusal(copy)
    assert message.startswith(str(copy / MANIFEST))
    assert expected in message


def test_a_file_of_another_adapter_is_named_with_both_checksums(copy: Path) -> None:
    put_adapter(copy)
    expected = file_sha256(copy / ADAPTER)
    (copy / ADAPTER).write_bytes(adapter_of(np.zeros((OLD_SIZE, 163), np.float32)))
    message = refusal(copy)
    assert message.startswith(str(copy / ADAPTER))
    assert expected in message
    assert file_sha256(copy / ADAPTER) in message
    (copy / ADAPTER).unlink()
    assert refusal(copy).startswith(str(copy / ADAPTER))


@pytest.mark.parametrize(
    ("content", "adapts", "expected"),
    [
        (adapter_of(np.ones((6, 163), np.float32)), {}, "embedding float32[batch, 5], found embedding float32[batch, 6]"),
        (adapter_of(np.ones((5, 64), np.float32)), {}, "adapted float32[batch, 163], found adapted float32[batch, 64]"),
        (None, {"embedding_size": -1}, "embedding float32[batch, -1], found embedding float32[batch, 5]"),
        (b"\x3a\x04\x2a\x02\x70\x01", {}, "data in another file"),
        (b"no network", {}, "expected an ONNX file"),
    ],
)  # fmt: skip
def test_an_adapter_is_checked_as_the_other_networks_are(
    copy: Path, content: bytes | None, adapts: dict[str, Any], expected: str
) -> None:
    with pytest.raises(BundleError) as caught:
        put_adapter(copy, content, **adapts)
    assert str(caught.value).startswith(str(copy / ADAPTER))
    assert expected in str(caught.value)


def test_another_network_is_no_adapter(copy: Path) -> None:
    with pytest.raises(BundleError, match=r"expected the inputs embedding float32\[batch, 5\], found embeddings"):
        put_adapter(copy, (copy / AGGREGATOR).read_bytes())
