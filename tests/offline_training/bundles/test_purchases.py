"""A bundle that follows what all users take now: from a small shop with purchases on many days to what a worker loads."""

import random
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import LABELS, RANKING, Bundle  # noqa: E402
from model.fingerprint import known_in  # noqa: E402
from model.item_search.item_metrics import FIGURES  # noqa: E402
from model.item_search.weights import DEFAULT  # noqa: E402
from model.quantization import quantize_all  # noqa: E402
from model.scoring import ScoringBag, score_bags  # noqa: E402
from offline_training.tasks.catalogue import read_embeddings  # noqa: E402
from offline_training.tasks.evaluation import codes_of  # noqa: E402
from offline_training.tasks.purchases import NO_ITEM  # noqa: E402
from tests.offline_training.bundles.small_shop import EACH, KINDS, done, run  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.slow]

DAYS, USERS = 60, 150
START = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def data(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of the small shop, and users who are loyal to one colour and buy on several days."""
    folder, chance = tmp_path_factory.mktemp("purchases"), random.Random(1)
    events = ["user,item,time"]
    for user in range(USERS):
        liked = chance.choice(list(KINDS))
        for day in sorted(chance.sample(range(DAYS), 5)):
            moment = int((START + timedelta(days=day)).timestamp())
            colours = [liked if chance.random() < 0.8 else chance.choice(list(KINDS)) for _ in range(2)]
            events += [f"user-{user},{colour}{chance.randrange(EACH)},{moment}" for colour in colours]
    (folder / "events.csv").write_text("\n".join(events))
    tables = ("--items", shop / "items.csv", "--events", folder / "events.csv")
    done("dataset", "tables", *tables, "--out", folder / "set", "--levels", 2, "--min-items", 1)
    return folder / "set"


@pytest.fixture(scope="module")
def made(data: Path, embeddings: Path) -> Path:
    out = data.parent / "bundle"
    said = done("train", "bundle", data, "--embeddings", embeddings, "--task", "purchases", "--items", "--out", out)
    assert "28-day trend" in said
    assert re.search(r"The item ranking is (ahead of|behind) what was popular in 7 days", said)
    return out


def test_the_bundle_has_labels_a_field_and_an_aggregator_that_takes_ages_and_trend(made: Path) -> None:
    bundle = Bundle.load(made)
    [field] = bundle.fields
    assert field.name == "colour"
    assert field.categories == [0, 1, 2]
    assert bundle.prior.sum() == pytest.approx(1, abs=1e-4)
    assert bundle.aggregator().uses_trend
    assert LABELS in bundle.manifest.files
    assert bundle.labels_version


def test_it_ranks_items_by_weights_that_it_learnt_and_says_how_well(made: Path, data: Path, embeddings: Path) -> None:
    bundle = Bundle.load(made)
    assert RANKING in bundle.manifest.files
    assert bundle.ranking() != DEFAULT
    assert "--items" in bundle.manifest.training.command
    figures = bundle.manifest.metrics["test/items: all, recommended"]
    said = done("evaluate", made, data, "--embeddings", embeddings, "--task", "purchases", "--items")
    row = next(line for line in said.splitlines() if "recommended" in line and "is" not in line.split())
    assert [float(number) for number in row.split()[-3:]] == [figures[name] for name in FIGURES]


def test_it_takes_codes_of_an_older_bundle_and_says_what_that_costs(
    made: Path, data: Path, embeddings: Path, tmp_path: Path
) -> None:
    out, old = tmp_path / "adapted", Bundle.load(made)
    arguments = ("--embeddings", embeddings, "--task", "purchases", "--adapts", made, "--seed", 1, "--out", out)
    said = done("train", "bundle", data, *arguments)
    assert re.search(
        rf"adapts embedder {old.embedder_version} .*, fitted on {len(KINDS) * EACH} pictures; macro hit@3 by codes: "
        r"[\d.]+ native, [\d.]+ adapted \(\S+ \[\S+, \S+\]\), [\d.]+ untouched \(\S+ \[\S+, \S+\]\)$",
        said,
        re.MULTILINE,
    )
    new = Bundle.load(out)
    assert new.adapter(old.embedder_version) is not None
    measured = new.manifest.metrics
    native, adapted, untouched = (
        measured[f"test/purchases, {kind} codes"] for kind in ("native", "adapted", "untouched")
    )
    assert native["macro hit@3"] == measured["test/purchases"]["macro hit@3"]
    assert adapted["bits"] < native["bits"] + 0.05 < untouched["bits"]
    assert set(measured["validation/purchases, loss by adapter"]) == {"native", "rotation", "affine", "residual"}


def test_it_says_what_it_learnt_from_and_has_a_dated_version(made: Path) -> None:
    bundle = Bundle.load(made)
    assert re.fullmatch(r"\d{4}\.\d\d\.\d\d-[0-9a-f]{8}", bundle.version)
    training, data = bundle.manifest.training, bundle.manifest.data
    assert training.date[:10].replace("-", ".") == bundle.version[:10]
    assert training.command == "tastestream train bundle DATASET --embeddings FILE --task purchases --seed 0 --items"
    assert data is not None
    users = [f"user-{number}" for number in range(USERS)]
    learnt = [user for user in users if zlib.crc32(user.encode()) % 10]
    assert (data.users, data.items) == (len(learnt), len(KINDS) * EACH)
    assert known_in(data.user_ids, learnt) == (len(learnt), len(learnt))
    assert known_in(data.user_ids, set(users).difference(learnt)).known == 0


def test_the_labels_of_the_pictures_are_right(made: Path, embeddings: Path) -> None:
    bundle, (ids, features) = Bundle.load(made), read_embeddings(embeddings)
    labels = bundle.item_labels()
    assert labels is not None
    found = labels.of(quantize_all(codes_of(bundle.split_embedder(), features)))
    expected = ["".join(letter for letter in name if letter.isalpha()) for name in ids]
    assert [bundle.categories[place] for place in found.argmax(1)] == [f"colour > {colour}" for colour in expected]
    assert (found.max(1) > 80).all(), "hundredths"


def test_the_bag_beats_the_trend_where_users_are_loyal_and_the_figures_say_so(made: Path) -> None:
    measured = Bundle.load(made).manifest.metrics
    own, trend = measured["test/purchases"], measured["test/purchases, last 28 days"]
    assert own["macro hit@1"] > trend["macro hit@1"] + 0.15
    assert own["bits"] < trend["bits"] - 0.2
    assert "test/purchases after a view" in measured


def test_a_user_without_a_bag_gets_the_trend_and_a_shop_without_events_about_the_prior(made: Path) -> None:
    bundle = Bundle.load(made)
    aggregator = bundle.aggregator()
    nothing, no_item = np.zeros((1, bundle.embedding_size), np.float32), np.full(1, NO_ITEM, np.float32)
    for wanted in range(3):
        trend = np.full((3, 3), 5, np.float32)
        trend[:, wanted] = 400
        [scored] = score_bags(aggregator, [ScoringBag(nothing, no_item, np.zeros(1, np.float32), trend)])
        assert scored.scores.argmax() == wanted
        assert scored.scores.sum() == pytest.approx(1, abs=1e-5)
    [empty] = score_bags(aggregator, [ScoringBag(nothing, no_item)])
    assert empty.scores == pytest.approx(bundle.prior, abs=0.1)


def test_evaluate_repeats_the_figures_of_the_manifest(data: Path, made: Path, embeddings: Path) -> None:
    measured = Bundle.load(made).manifest.metrics["test/purchases"]
    said = done("evaluate", made, data, "--embeddings", embeddings, "--task", "purchases")
    assert f"{measured['macro hit@1']:.3f}" in said
    assert f"{measured['bits']:.3f}" in said


def test_a_shop_set_is_refused_with_the_reason(shop: Path, data: Path, embeddings: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    (tmp_path / "events.csv").write_text(
        "\n".join(["user,item,time", *(f"user-{n},red0,1600000000" for n in range(150))])
    )
    tables = ("--items", shop / "items.csv", "--events", tmp_path / "events.csv")
    done("dataset", "tables", *tables, "--out", tmp_path / "set", "--levels", 2, "--min-items", 1)
    one_day = run("train", "bundle", tmp_path / "set", "--embeddings", embeddings, "--task", "purchases", "--out", out)
    assert one_day.exit_code == 1
    assert "users who bought on two days or more are needed" in one_day.output.replace("\n", " ")
    common = ("train", "bundle", data, "--embeddings", embeddings, "--out", out)
    for arguments in (("--task", "purchases", "--max-bag", 5), ("--task", "next", "--apart", data)):
        refused = run(*common, *arguments)
        assert refused.exit_code == 1
        assert f"{arguments[2]} {arguments[3]}: not with --task {arguments[1]}" in refused.output.replace("\n", "")
    assert not out.exists()
