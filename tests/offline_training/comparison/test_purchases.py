"""The task purchases in a comparison: the trends beside the trained methods, and the report of it."""

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("matplotlib", reason="needs the extra `train`")

from rich.console import Console

from model import field_metrics
from offline_training.comparison import compare
from offline_training.comparison.cli import comparison_table
from offline_training.comparison.methods import METHODS, methods_of
from offline_training.comparison.purchase_task import PurchaseTask, purchase_task
from offline_training.comparison.report.page import HTML, MARKDOWN, write_report
from offline_training.comparison.report.tables import figures_table, intervals_table, verdict
from offline_training.comparison.results import Comparison, best, read, write
from offline_training.datasets.records import DatasetError
from offline_training.item_network.network import ItemRecipe
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.purchase_figures import BASELINES, TREND, measure
from offline_training.tasks.purchases import Taken, make_taken, popularity
from offline_training.tasks.split import Split
from tests.offline_training.silent import step
from tests.pages import Page

pytestmark = pytest.mark.training

COLOURS, KINDS, ITEMS, USERS = 4, 6, 48, 300
SMALL = ItemRecipe(code_size=8, width=16, epochs=2, min_steps=0)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Item n has colour n modulo 4 and kind n modulo 6; its embedding says both."""
    labels = [f"colour > {n}" for n in range(COLOURS)] + [f"kind > {n}" for n in range(KINDS)]
    matrix = np.zeros((ITEMS, len(labels)), bool)
    numbers = np.arange(ITEMS)
    matrix[numbers, numbers % COLOURS] = matrix[numbers, COLOURS + numbers % KINDS] = True
    return Catalogue([str(n) for n in numbers], labels, 10 * matrix.astype(np.float32), matrix, 0)


@pytest.fixture(scope="module")
def taken() -> Taken:
    """Users who buy items of one colour, on days far apart."""
    chance = np.random.default_rng(0)
    rows = [chance.permutation(np.arange(user % COLOURS, ITEMS, COLOURS))[:5] for user in range(USERS)]
    days = [np.sort(chance.permutation(60)[:5]) for _ in range(USERS)]
    user, day, row = np.repeat(np.arange(USERS), 5), np.concatenate(days), np.concatenate(rows)
    order = np.argsort(day, kind="stable")
    return make_taken(
        [f"user-{number}" for number in range(USERS)],
        user=user[order],
        day=day[order],
        row=row[order],
        weight=np.full(len(order), 100),
        bought=np.ones(len(order), bool),
        apart=np.zeros(USERS, bool),
    )


@pytest.fixture(scope="module")
def task(taken: Taken, catalogue: Catalogue) -> tuple[Split, PurchaseTask]:
    return purchase_task(taken, catalogue, max_bag=16)


@pytest.fixture(scope="module")
def found(task: tuple[Split, PurchaseTask], catalogue: Catalogue) -> Comparison:
    split, asked = task
    methods = ["popularity", *BASELINES, "frequency of true labels", "average"]
    return compare.compare(
        "purchases", catalogue, [split], methods=methods, seeds=[0, 1], recipe=SMALL, step=step, asked=asked
    )


def test_the_bags_of_a_day_ask_for_the_labels_of_everything_bought_on_it(
    task: tuple[Split, PurchaseTask], catalogue: Catalogue
) -> None:
    split, asked = task
    for bags, contexts in ((split.validation, asked.validation), (split.test, asked.test)):
        for number in range(len(contexts.day)):
            wanted = catalogue.matrix[contexts.targets[contexts.of_target == number]].any(axis=0)
            assert np.array_equal(bags.targets[number], wanted)
            held = contexts.rows[contexts.starts[number] : contexts.starts[number + 1]]
            assert bags.rows[number][: len(held)].tolist() == held.tolist()


def test_the_trends_have_the_figures_of_evaluate_and_the_lead_of_a_method_is_over_the_28_days(
    found: Comparison, task: tuple[Split, PurchaseTask], taken: Taken, catalogue: Catalogue
) -> None:
    asked = task[1]
    hits = {}
    for name, days in BASELINES.items():
        expected = measure(
            popularity(taken, catalogue.matrix, asked.fields, days).at(asked.test.day),
            asked.test,
            catalogue.matrix,
            asked.fields,
        )
        hits[name] = expected.hits
        for run in found.runs:
            if run.method == name:
                assert run.figures["macro hit@3"] == expected.figures["macro hit@3"]
                assert run.figures["recall@5"] == expected.figures["recall@5"], "of a purchase, not of a day"
    users = asked.test.user[asked.test.of_target]
    assert TREND not in found.trend_leads
    lead = found.trend_leads["last 7 days"]
    assert (lead.difference, lead.low, lead.high) == field_metrics.paired(hits["last 7 days"], hits[TREND], users)


def test_a_method_that_knows_the_bag_is_ahead_of_the_trend_and_the_verdict_says_so(found: Comparison) -> None:
    assert found.figure == "macro hit@3"
    assert best(found) == "average"
    lead = found.trend_leads["average"]
    assert lead.low > 0
    first, second, *_ = verdict(found)
    assert first.startswith("average is the best trained method by macro hit@3 on validation users.")
    assert second == (
        f"average is ahead of the 28-day trend by {lead.difference:.3f} [{lead.low:.3f}, {lead.high:.3f}] in macro hit@3, "
        "which is more than chance."
    )


def test_the_report_shows_the_trends_the_fields_and_what_is_best(found: Comparison, tmp_path: Path) -> None:
    write(found, tmp_path)
    assert read(tmp_path / "purchases.json") == found
    write_report(tmp_path, step)
    figures, intervals, *fields = Page((tmp_path / HTML).read_text(encoding="utf-8")).tables
    assert figures == [figures_table(found).header, *figures_table(found).rows]
    assert figures[-1][0] == "at best"
    assert figures[-1][figures[0].index("recall@5")] == "1.0000"
    assert intervals == [intervals_table(found).header, *intervals_table(found).rows]
    assert intervals[0][3] == "lead over the 28-day trend"
    assert [table[0] for table in fields[:2]] == [
        ["method", *(f"{field}: {figure}" for field in ("colour", "kind"))] for figure in ("hit@3", "calibration error")
    ]
    for name in (HTML, MARKDOWN):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "the 28-day trend by" in text
        assert "ounded precision" not in text


def test_the_trends_answer_the_task_purchases_only() -> None:
    assert set(METHODS) - set(methods_of("next")) == set(BASELINES)
    assert methods_of("purchases") == list(METHODS)


def test_labels_without_a_field_are_refused_before_training(taken: Taken, catalogue: Catalogue) -> None:
    both = catalogue.matrix.copy()
    both[0] = True
    with pytest.raises(DatasetError, match="the labels have no field"):
        purchase_task(taken, Catalogue(catalogue.items, catalogue.labels, catalogue.embeddings, both, 0), max_bag=4)


def test_the_table_of_the_terminal_shows_whole_numbers_in_eighty_columns(found: Comparison) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table(found))
    text = console.export_text()
    assert "…" not in text
    whole = figures_table(found)
    [row] = [row for row in whole.rows if row[0] == "frequency of true labels"]
    [line] = [line for line in text.splitlines() if "frequency of true labels" in line]
    assert f" {row[whole.header.index('macro hit@3')].partition(' ')[0]} " in line
