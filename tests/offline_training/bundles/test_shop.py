"""From a folder of pictures and two tables to a bundle that a worker runs, through the commands of docs/train/your-shop.md."""

import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle  # noqa: E402
from model.fingerprint import known_in  # noqa: E402
from model.preprocessing import decode_picture  # noqa: E402
from model.quantization import as_stored, dequantize  # noqa: E402
from model.sessions import open_session  # noqa: E402
from offline_training.aggregators import fitting  # noqa: E402
from offline_training.exporting.export import export_items  # noqa: E402
from offline_training.item_network.network import ItemNetwork, ItemRecipe, LabelGroup, codes  # noqa: E402
from offline_training.tasks.bags import make_bags  # noqa: E402
from offline_training.tasks.catalogue import read_catalogue, read_embeddings  # noqa: E402
from offline_training.tasks.evaluation import codes_of, scores  # noqa: E402
from tests.model.bundle.early import write_early  # noqa: E402
from tests.offline_training.bundles.small_shop import EACH, KINDS, USERS, done, run  # noqa: E402

pytestmark = pytest.mark.training


def test_the_catalogue_is_embedded_as_the_embed_worker_does_it(shop: Path, embeddings: Path) -> None:
    ids, vectors = read_embeddings(embeddings)
    assert len(ids) == 3 * EACH
    base = Bundle.load()
    features = base.backbone().features(decode_picture((shop / "blue3.jpg").read_bytes(), base.image_size)[None])
    [direct] = dequantize(features, vectors.shape[1])
    assert np.allclose(vectors[ids.index("blue3")], direct, atol=1e-4)


def test_existing_embeddings_are_kept_and_those_of_another_size_refused(
    shop: Path, embeddings: Path, tmp_path: Path
) -> None:
    ids, vectors = read_embeddings(embeddings)
    part = tmp_path / "part.npz"
    np.savez(part, ids=np.array(ids[:5]), embeddings=np.full((5, vectors.shape[1]), 7, np.float32))
    done("train", "embed", shop / "set", "--out", part)
    again, found = read_embeddings(part)
    assert sorted(again) == sorted(ids)
    assert (found[:5] == 7).all()
    np.savez(part, ids=np.array(ids[:5]), embeddings=np.ones((5, 3)))
    refused = run("train", "embed", shop / "set", "--out", part)
    assert refused.exit_code == 1
    assert "part.npz has 3 numbers per item, expected 1024: remove it" in refused.output.replace("\n", " ")


def test_the_bundle_is_whole_and_scores_each_colour_best_for_its_own_pictures(
    shop: Path, trained: Path, embeddings: Path
) -> None:
    made = Bundle.load(trained)
    assert made.categories == ("colour > blue", "colour > green", "colour > red")
    assert made.embedding_size == 128
    measured = made.manifest.metrics["test/next"]
    assert measured["MAP"] > 0.9
    recipe = made.manifest.training.recipe
    assert 0 < int(recipe["kept_step"]) <= int(recipe["steps"])
    assert recipe["converged"] == 1, "the loss of three colours falls to its end"
    pictures = [decode_picture((shop / f"{kind}0.jpg").read_bytes(), made.image_size) for kind in KINDS]
    direct = made.embedder().embed(np.stack(pictures))
    ids, features = read_embeddings(embeddings)
    coded = codes_of(made.split_embedder(), features)
    for found, kind in zip(direct, KINDS, strict=True):
        assert np.allclose(found, coded[ids.index(f"{kind}0")], atol=1e-3)
    scored = made.aggregator().score(direct[:, None], np.zeros((3, 1), np.float32))
    best = [made.categories[index] for index in scored.scores.argmax(1)]
    assert best == [f"colour > {kind}" for kind in KINDS]


def test_evaluate_repeats_the_figures_of_the_manifest_from_the_bundle_alone(
    shop: Path, trained: Path, embeddings: Path
) -> None:
    measured = Bundle.load(trained).manifest.metrics["test/next"]
    said = done("evaluate", trained, shop / "set", "--embeddings", embeddings, "--task", "next")
    for name in ("micro F1", "macro F1", "MAP"):
        [shown] = re.findall(rf"^ +{name} +([\d.]+)", said, re.MULTILINE)
        assert float(shown) == pytest.approx(measured[name], abs=1e-3), name
    assert f"{measured['users']:.0f} held-out users" in said
    others = Bundle.load(trained).manifest.metrics
    lead = measured["micro F1"] - others["test/next, popularity"]["micro F1"]
    assert measured["micro F1 - popularity"] == pytest.approx(lead, abs=2e-4)
    assert f"popularity by {abs(lead):.3f} [" in said


@pytest.mark.slow
def test_a_bundle_for_purchases_ends_with_its_lead_over_the_trend(shop: Path, embeddings: Path, tmp_path: Path) -> None:
    arguments = (shop / "set", "--embeddings", embeddings, "--task", "purchases")
    said = done("train", "bundle", *arguments, "--out", tmp_path)
    made = Bundle.load(tmp_path)
    measured = made.manifest.metrics["test/purchases"]
    assert made.manifest.training.task.startswith("which categories the next purchase has")
    assert measured["macro hit@1"] > made.manifest.metrics["test/purchases, last 28 days"]["macro hit@1"]
    lead = measured["macro hit@3 - last 28 days"]
    sentence = f"the 28-day trend by {abs(lead):.3f} ["
    again = done("evaluate", tmp_path, *arguments)
    for output in (said, again):
        assert sentence in output
        [shown] = re.findall(r"^ +macro hit@1 +([\d.]+)", output, re.MULTILINE)
        assert float(shown) == pytest.approx(measured["macro hit@1"], abs=1e-3)


def test_scores_of_padded_bags_equal_those_of_single_bags(shop: Path, trained: Path, embeddings: Path) -> None:
    made = Bundle.load(trained)
    coded = codes_of(made.split_embedder(), read_catalogue(shop / "set", embeddings).embeddings)
    bags = make_bags([np.array([0, 13, 30]), np.array([25])], np.zeros((2, 3), bool), 3)
    found = scores(made, bags, coded)
    for bag, scored in zip(([0, 13, 30], [25]), found, strict=True):
        direct = made.aggregator().score(coded[bag][None], np.zeros((1, len(bag)), np.float32))
        assert np.allclose(scored, direct.scores[0], atol=1e-5)


@pytest.mark.slow
def test_a_bundle_can_be_trained_on_the_backbone_of_another_trained_bundle(
    shop: Path, trained: Path, embeddings: Path
) -> None:
    """Its item network is left out, so training starts from the same embeddings."""
    again = shop / "again.npz"
    done("train", "embed", shop / "set", "--out", again, "--bundle", trained)
    for found, expected in zip(read_embeddings(again), read_embeddings(embeddings), strict=True):
        assert np.array_equal(found, expected)
    second = shop / "second"
    done("train", "bundle", shop / "set", "--embeddings", again, "--out", second, "--base", trained)
    bundles = Bundle.load(trained), Bundle.load(second)
    assert {one.backbone_version for one in bundles} == {Bundle.load().backbone_version}
    assert bundles[0].embedder_version == bundles[1].embedder_version != Bundle.load().embedder_version
    assert bundles[0].manifest.embedding == bundles[1].manifest.embedding
    pictures = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), np.uint8)
    first, other = (one.embedder().embed(pictures) for one in bundles)
    assert np.array_equal(first, other)


@pytest.mark.slow
def test_another_seed_changes_the_item_network_and_not_the_backbone(
    shop: Path, trained: Path, embeddings: Path, tmp_path: Path
) -> None:
    done("train", "bundle", shop / "set", "--embeddings", embeddings, "--out", tmp_path / "other", "--seed", 1)
    first, other = Bundle.load(trained), Bundle.load(tmp_path / "other")
    assert first.backbone_version == other.backbone_version
    assert first.embedder_version != other.embedder_version


def test_an_early_bundle_is_split_and_then_trained_on_and_measured(
    shop: Path, trained: Path, embeddings: Path, tmp_path: Path
) -> None:
    early = write_early(Bundle.load(trained), tmp_path / "early")
    version = Bundle.load(early).embedder_version
    for arguments in (
        ("train", "embed", shop / "set", "--out", tmp_path / "e.npz", "--bundle", early),
        ("train", "bundle", shop / "set", "--embeddings", embeddings, "--out", tmp_path / "b", "--base", early),
        ("evaluate", early, shop / "set", "--embeddings", embeddings),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert (
            "found embedder.onnx, which makes no features: write it in the present form with `tastestream train split`"
            in (refused.output.replace("\n", " "))
        )
    said = done("train", "split", early, "--out", tmp_path / "split", "--version", "1.1.0")
    made = Bundle.load(tmp_path / "split")
    assert f"backbone {made.backbone_version}, embedder {made.embedder_version}" in said
    assert (made.version, made.manifest.metrics, made.backbone_version) == ("1.1.0", {}, Bundle.load().backbone_version)
    assert Bundle.load(early).embedder_version == version
    done("evaluate", made.path, shop / "set", "--embeddings", embeddings, "--task", "next")
    for out, complaint in ((early, "another folder"), (tmp_path / "again", "it is split already")):
        refused = run("train", "split", early if out == early else made.path, "--out", out, "--version", "2")
        assert refused.exit_code == 1
        assert complaint in refused.output.replace("\n", " ")


def test_embeddings_labels_and_options_that_do_not_fit_are_refused_in_one_line(
    shop: Path, trained: Path, embeddings: Path, tmp_path: Path
) -> None:
    ids, features = read_embeddings(embeddings)
    np.savez(shop / "short.npz", ids=np.array(ids), embeddings=features[:, :7])
    spoilt = features.copy()
    spoilt[ids.index("green2"), 5] = np.inf
    np.savez(shop / "spoilt.npz", ids=np.array(ids), embeddings=spoilt)
    for arguments, complaint in (
        (
            ("evaluate", trained, shop / "set", "--embeddings", shop / "short.npz"),
            "short.npz has embeddings of 7 numbers, but the backbone of",
        ),
        (
            ("train", "bundle", shop / "set", "--embeddings", shop / "spoilt.npz", "--out", tmp_path),
            "spoilt.npz: expected finite numbers up to 1,000,000, found others for item green2:",
        ),
        (
            ("evaluate", Bundle.load().path, shop / "set", "--embeddings", embeddings),
            "the data set's 3 labels are not the 96 categories of",
        ),
        (
            ("train", "bundle", shop / "set", "--embeddings", shop / "short.npz", "--out", tmp_path),
            "embeddings of 7 numbers, but the backbone of",
        ),
        (
            ("train", "bundle", shop / "set", "--embeddings", embeddings, "--out", tmp_path, "--aggregator", "magic"),
            "--aggregator 'magic': expected average,",
        ),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert complaint in refused.output.replace("\n", " ")
        assert "Traceback" not in refused.output
    assert not list(tmp_path.iterdir())


def test_the_item_network_that_is_written_computes_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = ItemRecipe(code_size=9, width=16)
    items = ItemNetwork(24, 2, [LabelGroup([0, 1], exclusive=True)], recipe).eval()
    export_items(items.trunk, 24, tmp_path / "items.onnx")
    features = as_stored(np.random.default_rng(0).random((3, 24), np.float32))
    (found,) = open_session(tmp_path / "items.onnx", threads=1).run(["embedding"], {"features": features})
    assert np.allclose(np.asarray(found), codes(items, features), atol=1e-4)


@pytest.mark.slow
def test_two_trainings_have_two_versions_and_say_what_they_learnt_from(
    shop: Path, trained: Path, embeddings: Path, tmp_path: Path
) -> None:
    arguments = ("train", "bundle", shop / "set", "--embeddings", embeddings, "--task", "profile", "--max-bag", 5)
    said = [
        done(*arguments, "--aggregator", "average", "--seed", seed, "--out", tmp_path / str(seed)) for seed in (0, 1)
    ]
    first, second = (Bundle.load(tmp_path / str(seed)) for seed in (0, 1))
    today = datetime.now(UTC)
    for made, text, seed in ((first, said[0], 0), (second, said[1], 1)):
        assert re.fullmatch(rf"{today:%Y\.%m}\.\d\d-[0-9a-f]{{8}}", made.version)
        assert f"shop {made.version}, profile: " in text
        assert made.manifest.training.command == (
            "tastestream train bundle DATASET --embeddings FILE --task profile --aggregator average --max-bag 5 "
            f"--seed {seed}"
        )
        assert abs(datetime.fromisoformat(made.manifest.training.date) - today) < timedelta(minutes=10)
    assert first.version != second.version
    data = first.manifest.data
    assert data is not None
    users = [f"user-{number}" for number in range(USERS)]
    learnt = [user for user in users if zlib.crc32(user.encode()) % 10]
    assert (data.users, data.items) == (len(learnt), 3 * EACH)
    assert known_in(data.user_ids, users) == (len(learnt), USERS)
    shown = done("bundle", "show", tmp_path / "0")
    assert (
        f"learnt from {data.events:,} events of {len(learnt)} users, and the labels of 36 items: tables items.csv"
        in shown
    )
    assert f"fingerprints of {len(learnt)} users" in shown
    assert "user_ids" not in shown


def test_a_training_that_was_too_short_says_so(
    shop: Path, embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting, "LINEAR", replace(fitting.LINEAR, epochs=3, rates={}, rate=1e-4, min_steps=1, max_steps=3)
    )
    arguments = ("train", "bundle", shop / "set", "--embeddings", embeddings, "--task", "profile", "--max-bag", 5)
    said = done(*arguments, "--aggregator", "average", "--out", tmp_path)
    assert "Not trained to the end: the aggregator." in said
    assert Bundle.load(tmp_path).manifest.training.recipe["converged"] == 0


def test_a_version_that_is_given_stays(trained: Path) -> None:
    assert Bundle.load(trained).version == "1.0.0"
