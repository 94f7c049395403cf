"""A bundle is complete, or it is refused with one line: the file, what was expected and found, and what to do."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from model.bundle import (
    AGGREGATOR,
    BACKBONE,
    EMBEDDER,
    ITEMS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Bundle,
    backbone_version,
    embedder_version,
    file_sha256,
)
from model.bundle.manifest import Manifest, content_checksum, encode
from model.exceptions import BundleError
from model.quantization import dequantize
from tests.model.bundle.early import write_early
from tests.model.bundle.networks import aggregator_of, network

EIGHT_MEGABYTES = 8_000_000

Change = Callable[[dict[str, Any]], object]
"""Edits a manifest in place."""


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "bundle"))


def edit(folder: Path, change: Change) -> None:
    """Change a manifest, and its checksum with it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {"backbone_version": "", "embedder_version": ""}  # or each change of a file would be one of a version
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"checksum": content_checksum(manifest)}))


def damage(folder: Path, change: Change) -> None:
    """Change a manifest as an accident does, or somebody who does not know of the checksum."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "found" in message
    return message


def put(manifest: dict[str, Any], place: str, text: str) -> None:
    """Write a text into a place of a manifest that an error shows."""
    match place:
        case "field":
            manifest[text] = 1
        case "name of a file":
            manifest["files"] = {text: "", **manifest["files"]}
        case "path of a file":
            manifest["files"] = {f"../{text}": "", **manifest["files"]}
        case "only file":
            manifest["files"] = {text: ""}
        case "checksum of a file":
            manifest["files"][BACKBONE] = text
        case "version":
            manifest["embedder_version"] = text
        case "preprocessing":
            manifest["image"]["preprocessing"] = text
        case _:
            manifest["categories"] = [text, text]


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[2J", "\u202e", "a\0b", "x" * 1_000_000], ids=["line", "escape", "reordered", "zero", "long"]
)
@pytest.mark.parametrize(
    "place",
    [
        "field",
        "name of a file",
        "path of a file",
        "only file",
        "checksum of a file",
        "version",
        "preprocessing",
        "categories",
    ],
)
def test_an_error_shows_text_of_a_manifest_on_one_short_line(copy: Path, place: str, text: str) -> None:
    edit(copy, lambda manifest: put(manifest, place, text))
    message = refusal(copy)
    assert message.isprintable()
    assert len(message) < 1000


def test_the_checksum_of_a_manifest_is_shown_on_one_short_line(copy: Path) -> None:
    damage(copy, lambda manifest: manifest.update({"checksum": "\n" + "x" * 1_000_000}))
    message = refusal(copy)
    assert message.isprintable()
    assert len(message) < 1000


def test_the_shipped_bundle_is_complete_and_small(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < EIGHT_MEGABYTES
    assert len(bundle.categories) == len(set(bundle.categories)) == len(bundle.prior)
    assert all(name == name.lower().strip() for name in bundle.categories)
    assert bundle.prior.dtype == np.float32
    assert bundle.prior.min() > 0
    assert bundle.prior.max() < 1


def test_the_shipped_manifest_names_its_metrics_and_licences(bundle: Bundle) -> None:
    assert {source.licence for source in bundle.manifest.sources} == {
        "Apache-2.0",
        "CC0-1.0",
        "MIT",
        "Unsplash License",
    }
    assert bundle.manifest.metrics["held_out/as shipped"]["users"] >= 2000
    text = (bundle.path / MANIFEST).read_text()
    assert "/home" not in text
    assert "/work" not in text


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(tmp_path / "none")


@pytest.mark.parametrize("name", [MANIFEST, BACKBONE, ITEMS, AGGREGATOR])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert str(copy / name) in refusal(copy)


@pytest.mark.parametrize("name", [BACKBONE, ITEMS, AGGREGATOR])
def test_a_damaged_file_is_named_with_both_checksums(copy: Path, name: str, bundle: Bundle) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    message = refusal(copy)
    assert str(copy / name) in message
    assert bundle.manifest.files[name] in message
    assert file_sha256(copy / name) in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": 1}', b'{"name": ' + b"[" * 100_000])
def test_an_invalid_manifest_is_refused(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    assert str(copy / MANIFEST) in refusal(copy)


MISFITS: list[tuple[Change, str, str, str]] = [
    (lambda m: m["embedding"].update(size=512), ITEMS, "512", "163"),
    (lambda m: m["image"].update(size=192), BACKBONE, "192", "224"),
    (
        lambda m: (m["categories"].pop(), m["prior"].pop(), m["fields"][0]["categories"].pop()),
        AGGREGATOR,
        "scores float32[batch, 95]",
        "scores float32[batch, 96]",
    ),
    (lambda m: m["prior"].pop(), MANIFEST, "96", "95"),
    (lambda m: m["categories"].__setitem__(0, m["categories"][1]), MANIFEST, "distinct", "95"),
    (lambda m: m["image"].update(preprocessing="other"), MANIFEST, "fit-white-1", "other"),
    (lambda m: m["files"].pop(BACKBONE), MANIFEST, BACKBONE, ITEMS),
    (
        lambda m: m["files"].pop(ITEMS),
        MANIFEST,
        f"{ITEMS}, from 1024 features to an embedding of 163 numbers",
        BACKBONE,
    ),
    (lambda m: m["files"].pop(AGGREGATOR), MANIFEST, AGGREGATOR, BACKBONE),
    (lambda m: m["files"].update({EMBEDDER: "0"}), MANIFEST, f"{EMBEDDER} alone, or {BACKBONE} and {ITEMS}", BACKBONE),
    (lambda m: (m["files"].pop(BACKBONE), m["files"].update({EMBEDDER: "0"})), MANIFEST, f"{EMBEDDER} alone", ITEMS),
    (lambda m: m["files"].update({"../escape": "0"}), MANIFEST, "names of files", "../escape"),
]


@pytest.mark.parametrize(("change", "file", "expected", "found"), MISFITS)
def test_a_manifest_that_does_not_fit_its_networks_is_refused(
    copy: Path, change: Change, file: str, expected: str, found: str
) -> None:
    edit(copy, change)
    message = refusal(copy)
    assert message.startswith(str(copy / file))
    assert expected in message
    assert found in message


DAMAGES: dict[str, Change] = {
    "the name": lambda m: m.update(name="another"),
    "a category": lambda m: m["categories"].__setitem__(0, "hats"),
    "the order of the categories": lambda m: m["categories"].reverse(),
    "one probability of the prior": lambda m: m["prior"].__setitem__(3, m["prior"][3] / 2),
    "the version": lambda m: m.update(version="2.0.1"),
    "a licence": lambda m: m["sources"][0].update(licence="none"),
    "a figure": lambda m: m["metrics"]["held_out/as shipped"].update(users=1.0),
    "the largest bag": lambda m: m.update(max_bag=m["max_bag"] + 1),
    "the checksum itself": lambda m: m.update(checksum=m["checksum"][::-1]),
    "an empty checksum": lambda m: m.update(checksum=""),
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_a_manifest_covers_all_of_itself(copy: Path, change: Change) -> None:
    damage(copy, change)
    message = refusal(copy)
    assert message.startswith(str(copy / MANIFEST))
    assert "SHA-256" in message


def test_white_space_and_the_order_of_fields_do_not_change_a_manifest(copy: Path, bundle: Bundle) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(dict(reversed(manifest.items())), indent=7))
    assert Bundle.load(copy).manifest == bundle.manifest


def test_a_bundle_of_an_early_version_loads_without_a_checksum_of_its_manifest(copy: Path) -> None:
    damage(copy, lambda m: (m.pop("checksum"), m.update(name="early")))
    assert Bundle.load(copy).name == "early"


def test_a_manifest_that_is_written_covers_itself(copy: Path, bundle: Bundle) -> None:
    (copy / MANIFEST).write_bytes(encode(msgspec.structs.replace(bundle.manifest, name="another")))
    assert Bundle.load(copy).name == "another"


def test_a_manifest_without_an_end_is_refused(copy: Path) -> None:
    (copy / MANIFEST).unlink()
    (copy / MANIFEST).symlink_to("/dev/zero")
    assert str(copy / MANIFEST) in refusal(copy)


def test_a_manifest_above_the_limit_is_refused(copy: Path) -> None:
    with (copy / MANIFEST).open("ab") as file:
        file.write(b" " * MAX_MANIFEST_BYTES)
    assert "16,777,216 bytes" in refusal(copy)


def test_swapped_networks_are_refused(copy: Path) -> None:
    (copy / BACKBONE).write_bytes((copy / AGGREGATOR).read_bytes())
    edit(copy, lambda m: m["files"].update({BACKBONE: m["files"][AGGREGATOR]}))
    message = refusal(copy)
    assert "image uint8[batch, 224, 224, 3]" in message
    assert "log_prior" in message


def test_a_file_that_is_not_a_network_is_refused(copy: Path) -> None:
    (copy / AGGREGATOR).write_bytes(b"no network")
    edit(copy, lambda m: m["files"].update({AGGREGATOR: file_sha256(copy / AGGREGATOR)}))
    assert "expected an ONNX file" in refusal(copy)


def test_a_network_that_onnx_runtime_cannot_load_is_refused(copy: Path) -> None:
    (copy / AGGREGATOR).write_bytes(b"\x3a\x00")  # a graph without anything
    edit(copy, lambda m: m["files"].update({AGGREGATOR: file_sha256(copy / AGGREGATOR)}))
    with pytest.raises(BundleError, match="cannot load it") as caught:
        Bundle.load(copy)
    assert "\n" not in str(caught.value)


def test_a_network_with_data_in_another_file_is_refused_before_it_is_opened(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("ONNX Runtime must not see this file")

    monkeypatch.setattr("model.sessions.open_session", opened)
    (copy / BACKBONE).write_bytes(b"\x3a\x04\x2a\x02\x70\x01")  # graph.initializer.data_location = EXTERNAL
    edit(copy, lambda m: m["files"].update({BACKBONE: file_sha256(copy / BACKBONE)}))
    message = refusal(copy)
    assert message.startswith(str(copy / BACKBONE))
    assert "data in another file" in message


def test_the_versions_change_with_the_networks_and_the_preprocessing_only(copy: Path, bundle: Bundle) -> None:
    edit(copy, lambda m: m.update(name="another", version="9"))
    assert versions(Bundle.load(copy).manifest) == versions(bundle.manifest)
    manifest, other = bundle.manifest, "0" * 64
    for name, changed in ((AGGREGATOR, (False, False)), (ITEMS, (False, True)), (BACKBONE, (True, True))):
        found = versions(msgspec.structs.replace(manifest, files={**manifest.files, name: other}))
        assert tuple(one != same for one, same in zip(found, versions(manifest), strict=True)) == changed
    for change in ({"size": 192}, {"preprocessing": "other"}):
        found = versions(msgspec.structs.replace(manifest, image=msgspec.structs.replace(manifest.image, **change)))
        assert not set(found) & set(versions(manifest))


def versions(manifest: Manifest) -> tuple[str, str]:
    return backbone_version(manifest), embedder_version(manifest)


def test_the_shipped_manifest_names_its_versions(bundle: Bundle) -> None:
    assert (bundle.manifest.backbone_version, bundle.manifest.embedder_version) == versions(bundle.manifest)


@pytest.mark.parametrize("field", ["backbone_version", "embedder_version"])
def test_a_manifest_that_names_another_version_is_refused(copy: Path, bundle: Bundle, field: str) -> None:
    edit(copy, lambda m: m.update({field: "0123456789ab"}))
    message = refusal(copy)
    assert message.startswith(str(copy / MANIFEST))
    assert f"expected {field} {getattr(bundle, field)}, found '0123456789ab'" in message


def test_an_item_network_for_other_features_is_refused(copy: Path) -> None:
    node = helper.make_node("MatMul", ["features", "weights"], ["embedding"])
    (copy / ITEMS).write_bytes(
        network(
            [node], {"features": ["batch", 576]}, {"embedding": ["batch", 163]}, weights=np.ones((576, 163), np.float32)
        )
    )
    edit(copy, lambda m: m["files"].update({ITEMS: file_sha256(copy / ITEMS)}))
    message = refusal(copy)
    assert message.startswith(str(copy / ITEMS))
    assert "expected the inputs features float32[batch, 1024], found features float32[batch, 576]" in message


def test_a_backbone_that_makes_no_vector_is_refused(copy: Path) -> None:
    nodes = [helper.make_node("Cast", ["image"], ["features"], to=TensorProto.FLOAT)]
    shape = ["batch", 224, 224, 3]
    (copy / BACKBONE).write_bytes(network(nodes, {"image": shape}, {"features": shape}, kind=TensorProto.UINT8))
    edit(copy, lambda m: m["files"].update({BACKBONE: file_sha256(copy / BACKBONE)}))
    message = refusal(copy)
    assert message.startswith(str(copy / BACKBONE))
    assert "found features float32[batch, 224, 224, 3]" in message


def test_a_bundle_without_an_item_network_embeds_with_its_backbone(copy: Path, bundle: Bundle) -> None:
    (copy / AGGREGATOR).write_bytes(aggregator_of(1024))
    files = {BACKBONE: bundle.manifest.files[BACKBONE], AGGREGATOR: file_sha256(copy / AGGREGATOR)}
    edit(
        copy,
        lambda m: (m.update(files=files, categories=["a"], prior=[0.5], fields=[]), m["embedding"].update(size=1024)),
    )
    alone = Bundle.load(copy)
    assert alone.embedder_version == alone.backbone_version == bundle.backbone_version
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert np.array_equal(alone.embedder().embed(pictures), dequantize(bundle.backbone().features(pictures), 1024))


def test_an_early_bundle_keeps_its_embedder_version_and_has_no_backbone_version(bundle: Bundle, tmp_path: Path) -> None:
    early = Bundle.load(write_early(bundle, tmp_path / "early"))
    assert early.backbone_version == ""
    assert early.embedder_version != bundle.embedder_version
    shipped_before = {"embedder.onnx": "c757433531e512802b2ce579a7d1f11d1405fafa7f8cebcb8f614ae1b79fa560"}
    assert versions(msgspec.structs.replace(early.manifest, files=shipped_before)) == ("", "2d67ac28abbf")


def test_an_early_bundle_embeds_without_rounding_in_between(bundle: Bundle, tmp_path: Path) -> None:
    early = Bundle.load(write_early(bundle, tmp_path / "early"))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    found, rounded = early.embedder().embed(pictures), bundle.embedder().embed(pictures)
    assert not np.array_equal(found, rounded)
    assert np.abs(found - rounded).max() < 0.05
    with pytest.raises(BundleError, match=r"expected a bundle with backbone\.onnx, found embedder\.onnx"):
        early.backbone()


def test_an_early_manifest_may_name_its_version_but_no_other(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_early(bundle, tmp_path / "early")
    version = Bundle.load(folder).embedder_version
    edit(folder, lambda m: m.update(embedder_version=version))
    assert Bundle.load(folder).embedder_version == version
    edit(folder, lambda m: m.update(backbone_version=bundle.backbone_version))
    assert "expected backbone_version empty" in refusal(folder)


def test_loading_does_not_depend_on_the_working_directory(tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert Bundle.load().name == "default"
    finally:
        os.chdir(before)
