"""Training on data with a known answer: the item network, bags and batches, and the comparison of methods."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from msgspec import structs  # noqa: E402
from typer.testing import CliRunner, Result  # noqa: E402

from offline_training.aggregators import AGGREGATORS  # noqa: E402
from offline_training.aggregators.fitting import FitRecipe, batches, fit, inputs_of, predict  # noqa: E402
from offline_training.aggregators.interface import (  # noqa: E402
    Config,
    drop_some_items,
    noisy_or,
)
from offline_training.aggregators.paper import MaskedAverage, Unmasked  # noqa: E402
from offline_training.cli import train_app as app  # noqa: E402
from offline_training.comparison.compare import MethodRunner, compare  # noqa: E402
from offline_training.comparison.methods import METHODS  # noqa: E402
from offline_training.comparison.report.tables import remarks, verdict  # noqa: E402
from offline_training.comparison.results import spread  # noqa: E402
from offline_training.datasets.labels import LabelRule  # noqa: E402
from offline_training.datasets.prepare import prepare  # noqa: E402
from offline_training.datasets.records import DatasetEvent, DatasetItem  # noqa: E402
from offline_training.item_network.network import ItemRecipe, LabelGroup, codes, label_groups, train_items  # noqa: E402
from offline_training.tasks.bags import make_bags  # noqa: E402
from offline_training.tasks.catalogue import Catalogue  # noqa: E402
from offline_training.tasks.split import Histories, make_folds, make_split  # noqa: E402
from tests.offline_training.datasets.sources import Given, no_step  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402

pytestmark = pytest.mark.training

SIZE, ITEMS = 24, 300
LABELS = ["colour > blue", "colour > red", "kind > hat", "kind > shoe", "kind > tie"]
SMALL = ItemRecipe(code_size=8, width=32, epochs=30, batch=64, dropout=0.0, drop_input=0.0, mixup=0.0, min_steps=0)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Items whose embeddings are sums of one direction per label. Every item has a colour, and most have a kind."""
    chance = np.random.default_rng(1)
    matrix = np.zeros((ITEMS, len(LABELS)), bool)
    matrix[np.arange(ITEMS), chance.integers(0, 2, ITEMS)] = True
    kinds = chance.integers(2, 6, ITEMS)
    matrix[np.flatnonzero(kinds < 5), kinds[kinds < 5]] = True
    directions = chance.normal(size=(len(LABELS), SIZE))
    embeddings = matrix @ directions + chance.normal(scale=0.5, size=(ITEMS, SIZE))
    return Catalogue([f"item-{n}" for n in range(ITEMS)], LABELS, embeddings.astype(np.float32), matrix, 0)


@pytest.fixture(scope="module")
def histories() -> Histories:
    chance = np.random.default_rng(2)
    rows = [chance.permutation(ITEMS)[: chance.integers(3, 9)].astype(np.int32) for _ in range(900)]
    return Histories([f"user-{number}" for number in range(900)], rows)


def test_labels_that_no_item_has_together_form_an_exclusive_group(catalogue: Catalogue) -> None:
    groups = label_groups(LABELS, catalogue.matrix)
    assert groups == [LabelGroup([0, 1], exclusive=True), LabelGroup([2, 3, 4], exclusive=True)]
    both = catalogue.matrix.copy()
    both[7, 2:4] = True
    assert [group.exclusive for group in label_groups(LABELS, both)] == [True, False]


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_item_network_predicts_the_labels_of_unseen_items(catalogue: Catalogue, *, exclusive: bool) -> None:
    groups = [group._replace(exclusive=exclusive) for group in label_groups(LABELS, catalogue.matrix)]
    steps: list[float] = []
    network = train_items(
        catalogue.embeddings[:200], catalogue.matrix[:200], groups, SMALL, seed=0, advance=steps.append
    )
    found = codes(network, catalogue.embeddings[200:])
    assert found.shape == (100, 8)
    with torch.inference_mode():
        probabilities = network.head(torch.from_numpy(found)).numpy()
    right = (probabilities >= 0.5) == catalogue.matrix[200:]
    assert right.mean() > 0.95
    assert len(steps) == 30 * 4
    if exclusive:
        assert (probabilities[:, 2:].sum(1) <= 1 + 1e-5).all()


def test_noisy_or_is_the_probability_that_any_item_has_the_label() -> None:
    probabilities = torch.tensor([[[0.5, 0.0], [0.2, 0.9], [0.7, 0.7]]])
    log_weight = torch.tensor([[0.0, 0.0, -torch.inf]])
    union, _ = noisy_or(probabilities, log_weight)
    assert union[0].tolist() == pytest.approx([1 - 0.5 * 0.8, 0.9], abs=1e-4)
    halved, _ = noisy_or(probabilities, torch.tensor([[0.0, float(np.log(0.5)), -torch.inf]]))
    assert halved[0].tolist() == pytest.approx([1 - 0.5 * 0.8**0.5, 1 - 0.1**0.5], abs=1e-4)


def test_the_attention_of_noisy_or_is_the_item_s_share_in_the_labels() -> None:
    probabilities = torch.tensor([[[0.75, 0.0], [0.5, 0.0], [0.0, 0.0], [0.9, 0.9]]])
    _, shares = noisy_or(probabilities, torch.tensor([[0.0, 0.0, 0.0, -torch.inf]]))
    assert shares[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=1e-3)  # .25 = .5 * .5 is missed
    _, alike = noisy_or(torch.zeros(1, 4, 2), torch.zeros(1, 4))
    assert alike[0].tolist() == pytest.approx([0.25] * 4)


def test_dropping_items_never_empties_a_bag() -> None:
    torch.manual_seed(0)
    log_weight = torch.tensor([[0.0, 0.0, -torch.inf]]).repeat(1000, 1)
    kept = ~torch.isneginf(drop_some_items(log_weight, 0.5))
    assert not kept[:, 2].any()
    assert kept.any(1).all()
    assert 0.4 < (kept.sum(1) == 2).float().mean() < 0.6  # a quarter keeps both, a quarter would lose both


def test_a_batch_of_bags_is_padded_to_its_longest_bag() -> None:
    embeddings = torch.arange(8.0).reshape(4, 2)
    rows = [np.array([3]), np.array([0, 2]), np.array([1, 2, 3])]
    bags = make_bags(rows, np.zeros((3, 1), bool), 5, [np.full(len(row), -0.5, np.float32) for row in rows])
    assert bags.rows.shape == (3, 5)
    items, log_weight = inputs_of(embeddings, bags.of(np.array([0, 1])))
    assert items.shape == (2, 2, 2)
    assert items[1].tolist() == [[0, 1], [4, 5]]
    assert log_weight.tolist() == [[-0.5, -np.inf], [-0.5, -0.5]]


def test_batches_hold_each_bag_once_and_bags_of_similar_size() -> None:
    sizes = np.random.default_rng(0).integers(1, 65, 5000)
    found = list(batches(sizes, 64, np.random.default_rng(1)))
    assert sorted(np.concatenate(found)) == list(range(5000))
    assert len(found) == 79
    assert np.mean([np.ptp(sizes[batch]) for batch in found]) < 8
    assert [list(batch) for batch in batches(sizes, 64, np.random.default_rng(2))] != [list(batch) for batch in found]


@pytest.mark.parametrize("kind", ["average", "average+cg", "nan", "nan+cg"])
def test_unmasked_padding_counts_as_items_of_zeros(kind: str) -> None:
    torch.manual_seed(3)
    network = AGGREGATORS[kind](Config(SIZE, len(LABELS), input_scale=1.0), None)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    embeddings, log_weight = torch.randn(2, 5, SIZE), torch.zeros(2, 5)
    log_weight[1, 3:] = -torch.inf
    zeros = torch.zeros(2, 8, SIZE)
    zeros[0, :5], zeros[1, :3] = embeddings[0], embeddings[1, :3]
    with torch.inference_mode():
        wanted, _ = network(zeros, torch.zeros(2, 8))
        found, attention = Unmasked(network, 8)(embeddings, log_weight)
        full, _ = Unmasked(network, 5)(embeddings[:1], log_weight[:1])
        alone, _ = network(embeddings[:1], log_weight[:1])
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
    torch.testing.assert_close(full, alone)


def test_training_keeps_the_epoch_with_the_lowest_validation_loss(catalogue: Catalogue, histories: Histories) -> None:
    """With random targets the network can only overfit, so the validation loss rises."""
    split = make_split("profile", histories, catalogue)
    chance = np.random.default_rng(0)
    train, validation = (
        bags.of(slice(60))._replace(targets=chance.random((len(bags.rows[:60]), len(LABELS))) < 0.5)
        for bags in (split.train, split.validation)
    )
    split = split._replace(train=train, validation=validation)
    torch.manual_seed(0)
    network = MaskedAverage(Config(SIZE, len(LABELS), input_scale=1.0))
    embeddings = torch.from_numpy(catalogue.embeddings)
    curve = fit(network, embeddings, split, FitRecipe(epochs=40, batch=20, rate=0.1), seed=0)
    assert curve.train[-1] < curve.train[0]
    assert min(curve.validation) < curve.validation[-1] - 0.1
    scores = predict(network, embeddings, validation).astype(np.float64)
    loss = -np.where(validation.targets, np.log(scores), np.log(1 - scores)).sum(1).mean()
    assert loss == pytest.approx(min(curve.validation), abs=1e-4)


@pytest.mark.slow
def test_a_comparison_ranks_methods_as_expected_and_repeats_with_the_seed(
    catalogue: Catalogue, histories: Histories
) -> None:
    split = make_split("profile", histories, catalogue)
    chosen = ["popularity", "average", "nan+cg unmasked tanh", "codes union"]
    found = compare("profile", catalogue, [split], methods=chosen, seeds=[0, 1], recipe=SMALL, step=step)
    assert [run.method for run in found.runs] == chosen * 2
    f1 = {name: spread([run for run in found.runs if run.method == name], "micro F1") for name in chosen}
    assert f1["popularity"][1] == 0
    assert f1["popularity"][0] < f1["average"][0] < f1["codes union"][0]
    assert f1["codes union"][0] > 0.9
    again = compare("profile", catalogue, [split], methods=["average"], seeds=[1], recipe=SMALL, step=step)
    assert again.runs[0].figures == found.runs[5].figures, "the same seed gives the same figures"


@pytest.mark.slow
def test_few_users_are_all_held_out_once_and_the_interval_is_over_all_of_them(
    catalogue: Catalogue, histories: Histories
) -> None:
    some = Histories(histories.users[:100], histories.rows[:100])
    folds = make_folds("profile", some, catalogue)
    found = compare("profile", catalogue, folds, methods=["popularity", "average"], seeds=[0], recipe=SMALL, step=step)
    assert (found.folds, found.users["test"]) == (5, 100)
    run = found.runs[1]
    assert run.figures["users"] == 100
    assert len(run.steps) == 5
    assert min(run.steps) >= 100
    alone = compare("profile", catalogue, folds[:1], methods=["average"], seeds=[0], recipe=SMALL, step=step).runs[0]
    widths = [one.figures["micro F1 high"] - one.figures["micro F1 low"] for one in (run, alone)]
    assert widths[0] < 0.8 * widths[1]
    assert "over the 100 held-out users of all parts" in " ".join(verdict(found))
    cut = structs.replace(found, folds=1, runs=[found.runs[0], structs.replace(run, converged=False)])
    assert remarks(cut) == [
        "Not trained to the end: average. The last state was kept, and the loss of the validation users still fell. "
        "More steps would raise the figures."
    ]


@pytest.fixture(scope="module")
def runner(catalogue: Catalogue, histories: Histories) -> Iterator[MethodRunner]:
    """All methods run on one task, so that they share the item networks. Each trains for a few steps."""
    split = make_split("next", Histories(histories.users[:60], histories.rows[:60]), catalogue)
    recipe = ItemRecipe(code_size=8, width=16, epochs=1, min_steps=0)
    brief = FitRecipe(epochs=2, drawn=1, settling=1, min_steps=0, enough_steps=0)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("aggregators.item_model", "comparison.compare"):
            patch.setattr(f"offline_training.{module}.recipe_for", lambda _: brief)  # pyright: ignore[reportUnknownLambdaType]
        yield MethodRunner(catalogue, split, recipe, seed=0, step=step, shown=np.arange(2))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs(runner: MethodRunner, name: str) -> None:
    answer = runner.run(name, cost=False)  # the suite of the aggregators exports each network
    assert np.isfinite(answer.test).all()
    assert np.isfinite(answer.curve.validation).all()


# The command


def run(*arguments: object) -> Result:
    environment = {"COLUMNS": "200", "TERM": "dumb"}
    return CliRunner(env=environment).invoke(app, ["compare", *(str(one) for one in arguments)])


@pytest.fixture(scope="module")
def dataset(catalogue: Catalogue, histories: Histories, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set with embeddings.npz in it."""
    folder = tmp_path_factory.mktemp("shop")
    items = [
        DatasetItem(name, None, tuple(tuple(LABELS[label].split(" > ")) for label in np.flatnonzero(labels)))
        for name, labels in zip(catalogue.items, catalogue.matrix, strict=True)
    ]
    events = [
        DatasetEvent(user, catalogue.items[row], "purchase", time)
        for user, rows in zip(histories.users, histories.rows, strict=True)
        for time, row in enumerate(rows)
    ]
    rule = LabelRule(2, 2, 1, 100)
    prepare(Given(events, items), "shop", folder, rule=rule, pictures=None, step=no_step, pictureless=True)
    np.savez(folder / "embeddings.npz", ids=catalogue.items[5:], embeddings=catalogue.embeddings[5:])
    return folder


def test_the_command_prints_a_table_and_writes_the_results(dataset: Path, tmp_path: Path) -> None:
    options = ("--embeddings", dataset / "embeddings.npz", "--out", tmp_path, "--seeds", 1)
    done = run(dataset, *options, "--task", "next", "--method", "popularity", "--method", "average")
    assert done.exit_code == 0, done.output
    assert "5 items have no embedding and are left out" in done.output
    assert "next: 5 labels" in done.output
    assert json.loads((tmp_path / "next.json").read_text())["runs"][0]["method"] == "popularity"
    assert not (tmp_path / "profile.json").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--task", "last"), "--task 'last': expected profile, unseen, next, purchases"),
        (("--method", "magic"), "--method 'magic': expected popularity, popular so far, last 7 days,"),
        (("--max-bag", "0"), "Invalid value"),
    ],
)
def test_a_bad_option_ends_with_one_line(
    dataset: Path, tmp_path: Path, options: tuple[str, str], complaint: str
) -> None:
    done = run(dataset, "--embeddings", dataset / "embeddings.npz", "--out", tmp_path, *options)
    assert done.exit_code != 0
    assert complaint in done.output
    assert "Traceback" not in done.output
