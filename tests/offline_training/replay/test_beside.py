"""Other bundles beside the served one: their names, and which of them are comparable."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import DEFAULT_BUNDLE, Bundle
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers import embeddings
from offline_training.replay.answers.embeddings import PictureEmbeddings
from offline_training.replay.evaluation.beside import bundles_beside, names_of, prior_of
from offline_training.replay.exceptions import ReplayError
from streams.settings import read_settings
from tests.offline_training.replay.finished import variant
from tests.offline_training.silent import step
from tests.streams.warm.shop import open_shop


@pytest.fixture(scope="module")
def served() -> Bundle:
    return Bundle.load()


def bundle_named(served: Bundle, name: str, version: str, folder: str) -> Bundle:
    return Bundle(Path(folder), msgspec.structs.replace(served.manifest, name=name, version=version))


def test_bundles_are_named_by_name_then_version_then_folder(served: Bundle) -> None:
    nan, average = bundle_named(served, "nan", "1", "/a/first"), bundle_named(served, "average", "1", "/a/second")
    assert names_of(served, [nan, average]) == ["nan", "average"]
    assert names_of(served, [nan, bundle_named(served, "nan", "2", "/a/second")]) == ["nan 1", "nan 2"]
    assert names_of(served, [nan, bundle_named(served, "nan", "1", "/a/second")]) == ["first", "second"]
    assert names_of(served, [nan, bundle_named(served, "nan", "1", "/b/first")]) == ["/a/first", "/b/first"]
    assert names_of(served, [bundle_named(served, served.name, served.version, "/a/first")]) == ["first"]
    assert names_of(served, [bundle_named(served, "popularity", "1", "/a/first")]) == ["popularity 1"]


def test_other_categories_are_refused_and_named(served: Bundle, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["categories"] = [*manifest["categories"][:-1], "hats"]

    folder = variant(tmp_path / "hats", change)
    lacking = served.categories[-1]
    with pytest.raises(
        ReplayError, match=rf"hats: its categories differ from .* lacks 1 \({lacking}\) and has other 1 \(hats\)"
    ):
        bundles_beside(served, [folder])


def test_the_order_of_categories_does_not_matter(served: Bundle, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["categories"].reverse()
        manifest["prior"].reverse()

    found = bundles_beside(served, [variant(tmp_path / "turned", change)])
    assert prior_of(found["turned"], served).tolist() == served.prior.tolist()


def test_the_served_bundle_and_a_bundle_given_twice_are_refused(served: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="this is the bundle that is served"):
        bundles_beside(served, [DEFAULT_BUNDLE])
    folder = variant(tmp_path / "copy")
    with pytest.raises(ReplayError, match="given twice; give another one"):
        bundles_beside(served, [folder, folder])


def test_bundles_with_one_embedder_share_the_embeddings(
    served: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[PictureRef]] = []
    plain = embeddings.embedded_pictures

    def counted(settings: Any, embedder: Any, some: Any, folders: Any, advance: Any) -> dict[PictureRef, bytes]:
        asked.append(list(some))
        return plain(settings, embedder, some, folders, advance)

    monkeypatch.setattr(embeddings, "embedded_pictures", counted)
    same = Bundle.load(variant(tmp_path / "same"))
    another = Bundle.load(variant(tmp_path / "another", embedder=b"another"))
    with open_shop() as shop:
        made = PictureEmbeddings(read_settings(fetch_allow_networks="127.0.0.0/8"), PictureFolders(), step)
        urls = [PictureRef(f"{shop.url}/{name}") for name in ("1", "2", "gone")]
        first = dict(made.of(served, [*urls[:2], urls[0]]))
        assert dict(made.of(same, [*urls[:2]])) == first
        made.of(same, urls)
        made.of(served, urls)
        assert dict(made.of(another, urls[:1])).keys() == {urls[0]}
    assert asked == [urls[:2], urls[2:], urls[:1]], "a picture that cannot be fetched is not tried again"
