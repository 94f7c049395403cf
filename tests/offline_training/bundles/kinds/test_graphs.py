"""The kinds join the networks of a bundle, and leave its own part as it is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the extra `train`")

from model.bundle import Bundle
from model.exceptions import BundleError
from model.preprocessing import decode_picture
from model.quantization import as_stored, dequantize, quantize_all
from model.scoring import ScoringBag, score_bags
from offline_training.bundles.kinds import graphs
from offline_training.bundles.kinds.graphs import FIELD, LEAST_PLAUSIBLE, PLAUSIBLE, SCALE, add_kinds
from offline_training.bundles.kinds.table import BIASES, WEIGHTS, CategoryKinds, KindHead, read_kinds
from tests.bundles import write_trending
from tests.data import DATA, needs
from tests.offline_training.bundles.small_shop import done, run

pytestmark = pytest.mark.training

NAMES = ["bags", "lamps", "shoes"]


@pytest.fixture(scope="module")
def head() -> KindHead:
    rng = np.random.default_rng(0)
    return KindHead(
        NAMES, rng.normal(0, 0.05, (5, 1024)).astype(np.float32), np.zeros(5, np.float32), np.array([0, 0, 1, 2, 2])
    )


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    found = np.abs(np.random.default_rng(1).normal(size=(6, 1024))).astype(np.float32)
    return as_stored(found)


@pytest.fixture
def general(trained: Path, head: KindHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle of three colours with kinds. What is red may be a bag or a lamp; the other colours may be anything."""
    red = next(name for name in Bundle.load(trained).categories if "red" in name)
    monkeypatch.setattr(
        graphs, "read_categories", lambda: {red: CategoryKinds(frozenset({"bags"}), frozenset({"lamps"}))}
    )
    return add_kinds(Bundle.load(trained), head, tmp_path / "general", version="2.0.0")


def codes(bundle: Bundle, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return as_stored(bundle.split_embedder().of_features(quantize_all(features)))


def score(bundle: Bundle, *bags: NDArray[np.float32], log_weight: float = 0.0) -> NDArray[np.float32]:
    filled = [ScoringBag(bag, np.full(len(bag), log_weight, np.float32)) for bag in bags]
    return np.stack([scored.scores for scored in score_bags(bundle.aggregator(), filled)])


def test_the_bundle_names_the_kinds_as_a_field(general: Bundle, trained: Path) -> None:
    own = Bundle.load(trained)
    assert general.categories == (*own.categories, *NAMES)
    assert [(field.name, field.categories) for field in general.manifest.fields] == [(FIELD, [3, 4, 5])]
    assert general.backbone_version == own.backbone_version
    assert general.embedder_version != own.embedder_version
    assert general.embedding_size == own.embedding_size + 3
    assert np.allclose(general.prior[3:], 1 / 3, atol=1e-4)


def test_an_embedding_holds_the_code_and_the_kinds(
    general: Bundle, trained: Path, head: KindHead, features: NDArray[np.float32]
) -> None:
    rows = quantize_all(features)
    found, own = general.split_embedder().of_features(rows), Bundle.load(trained).split_embedder().of_features(rows)
    assert np.array_equal(found[:, :128], own)
    assert np.allclose(np.exp(found[:, 128:] / SCALE), head.probabilities(features), atol=0.01)


def test_the_kinds_of_a_bag_are_shares_by_weight(
    general: Bundle, head: KindHead, features: NDArray[np.float32]
) -> None:
    bag = codes(general, features)
    weight = np.log(np.array([1, 0.3, 0.3, 1, 0.6, 0.3], np.float32))
    [scored] = score_bags(general.aggregator(), [ScoringBag(bag, weight)])
    wanted = np.exp(weight) @ head.probabilities(features) / np.exp(weight).sum()
    assert np.allclose(scored.scores[3:], wanted, atol=0.03)
    assert scored.scores[3:].sum() == pytest.approx(1, abs=1e-5)


def test_a_bag_scores_the_same_in_any_batch_and_padding_may_hold_anything(
    general: Bundle, features: NDArray[np.float32]
) -> None:
    bag = codes(general, features)
    alone, among = score(general, bag[:2]), score(general, bag, bag[:2])
    assert np.allclose(alone[0], among[1], atol=1e-6)
    padded = np.full((1, 5, bag.shape[1]), np.nan, np.float32)
    padded[0, :2] = bag[:2]
    weight = np.full((1, 5), -np.inf, np.float32)
    weight[0, :2] = 0
    assert np.allclose(general.aggregator().score(padded, weight).scores, alone, atol=1e-6)


def test_a_category_whose_kinds_no_item_shows_is_less_probable_and_the_others_stay(
    general: Bundle, trained: Path, features: NDArray[np.float32]
) -> None:
    own, bag = Bundle.load(trained), codes(general, features)[:1]
    red = next(place for place, name in enumerate(own.categories) if "red" in name)
    for bags, lamps, factor in (
        (0.6, 0.3, 0.9**PLAUSIBLE),
        (0.0, 0.01, 0.01**PLAUSIBLE),
        (0.0, 0.0, LEAST_PLAUSIBLE**PLAUSIBLE),
    ):
        bag[0, 128:] = SCALE * np.log(np.array([bags, lamps, 1 - bags - lamps]) + 1e-5)
        found, before = score(general, bag)[0], score(own, bag[:, :128])[0]
        assert found[red] == pytest.approx(before[red] * factor, rel=0.01)
        others = [place for place in range(3) if place != red]
        assert np.allclose(found[others], before[others], atol=1e-6)


def test_one_item_of_the_kind_among_many_is_enough(general: Bundle, features: NDArray[np.float32]) -> None:
    bag = codes(general, features)
    bag[:, 128:] = SCALE * np.log(np.array([1e-5, 1e-5, 1]))
    none = score(general, bag)[0]
    bag[2, 128:] = SCALE * np.log(np.array([1, 1e-5, 1e-5]))
    red = next(place for place, name in enumerate(general.categories) if "red" in name)
    assert score(general, bag)[0][red] == pytest.approx(none[red] / LEAST_PLAUSIBLE**PLAUSIBLE, rel=0.02)


def test_what_cannot_get_kinds_is_refused_in_one_line(
    general: Bundle, trained: Path, head: KindHead, tmp_path: Path
) -> None:
    own = Bundle.load(trained)
    narrow = KindHead(NAMES, head.weight[:, :7], head.bias, head.kind)
    known = KindHead([own.categories[0], *NAMES[1:]], head.weight, head.bias, head.kind)
    trending = Bundle.load(write_trending(tmp_path / "trending"))
    for bundle, kinds, complaint in (
        (general, head, "expected categories other than the kinds, found 'bags' in both"),
        (own, known, f"found {own.categories[0]!r} in both"),
        (own, narrow, r"expected a backbone of 7 features \(MobileNet v1\), found 1024"),
        (trending, head, "found labels.npz"),
    ):
        with pytest.raises(BundleError, match=complaint) as refused:
            add_kinds(bundle, kinds, tmp_path / "no", version="3")
        assert "\n" not in str(refused.value)
    copy = shutil.copytree(trained, tmp_path / "copy")
    with pytest.raises(BundleError, match="expected another folder"):
        add_kinds(Bundle.load(copy), head, copy, version="3")
    assert not (tmp_path / "no").exists()


def test_the_command_writes_the_bundle_and_refuses_what_has_kinds_in_one_line(trained: Path, tmp_path: Path) -> None:
    layer = {WEIGHTS: np.zeros((1, 1, 1024, 1001), np.float32), BIASES: np.zeros(1001, np.float32)}
    weights, out = tmp_path / "mobilenet.npz", tmp_path / "general"
    np.savez(weights, **layer)  # pyright: ignore[reportArgumentType] -- its second argument is another
    said = done("train", "kinds", trained, "--weights", weights, "--out", out, "--version", "2.0.0")
    made = Bundle.load(out)
    assert f"embedder {made.embedder_version}" in said
    assert made.categories[3:] == tuple(read_kinds())
    assert made.manifest.training.command.endswith(
        "&& tastestream train kinds BUNDLE --weights FILE --out BUNDLE --version 2.0.0"
    )
    for arguments, complaint in (
        ((out, "--weights", weights), "found 'appliances' in both"),
        ((trained, "--weights", tmp_path / "gone.npz"), "gone.npz: not a file of arrays (.npz)"),
        ((tmp_path / "gone", "--weights", weights), "gone"),
    ):
        refused = run("train", "kinds", *arguments, "--out", tmp_path / "no", "--version", "3")
        assert refused.exit_code == 1
        assert complaint in refused.output
        assert "Traceback" not in refused.output


@needs("mobilenet")
def test_the_shipped_bundle_names_the_kind_of_what_its_own_categories_do_not_know() -> None:
    shipped = Bundle.load()
    picture = decode_picture((DATA / "mobilenet" / "hot_dog.jpg").read_bytes(), shipped.image_size)
    embedding = as_stored(shipped.embedder().embed(picture[None]))
    scores = score(shipped, dequantize(quantize_all(embedding), shipped.embedding_size))[0]
    assert shipped.categories[int(scores.argmax())] == "meals and sweets"
