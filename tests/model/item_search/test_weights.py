"""`ranking.json` of a bundle: read, refused where it is damaged, and by default where it is missing."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from model.bundle import MANIFEST, RANKING, Bundle, file_sha256
from model.bundle.manifest import Manifest, encode
from model.exceptions import BundleError
from model.item_search.weights import DEFAULT, RankingWeights

TRAINED = RankingWeights(similarity=1, sharpness=2, floor=-3, categories=0, popularity=4, smoothing=5)


def with_ranking(bundle: Bundle, folder: Path, content: bytes) -> Path:
    copy = Path(shutil.copytree(bundle.path, folder / "bundle"))
    (copy / RANKING).write_bytes(content)
    manifest = msgspec.json.decode((copy / MANIFEST).read_bytes(), type=Manifest)
    files = manifest.files | {RANKING: file_sha256(copy / RANKING)}
    (copy / MANIFEST).write_bytes(encode(msgspec.structs.replace(manifest, files=files)))
    return copy


def test_a_bundle_without_it_ranks_by_the_defaults(bundle: Bundle) -> None:
    assert bundle.ranking() == DEFAULT


def test_a_bundle_ranks_as_it_was_trained_and_keeps_its_versions(bundle: Bundle, tmp_path: Path) -> None:
    made = Bundle.load(with_ranking(bundle, tmp_path, msgspec.json.encode(TRAINED)))
    assert made.ranking() == TRAINED
    assert made.embedder_version == bundle.embedder_version
    assert made.backbone_version == bundle.backbone_version


def test_a_changed_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copy = with_ranking(bundle, tmp_path, msgspec.json.encode(TRAINED))
    (copy / RANKING).write_bytes(msgspec.json.encode(DEFAULT))
    with pytest.raises(BundleError, match=RANKING):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "content",
    [
        b"not JSON",
        b"[]",
        b'{"similarity": 1}',
        json.dumps(msgspec.to_builtins(TRAINED) | {"more": 1}).encode(),
        json.dumps(msgspec.to_builtins(TRAINED) | {"sharpness": -1}).encode(),
        json.dumps(msgspec.to_builtins(TRAINED) | {"smoothing": 0}).encode(),
        json.dumps(msgspec.to_builtins(TRAINED)).replace("4", "1e999").encode(),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_name(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BundleError, match=rf"{RANKING}: expected"):
        Bundle.load(with_ranking(bundle, tmp_path, content))
