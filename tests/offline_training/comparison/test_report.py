"""The report of a comparison: it is complete, markup in names does not break it, and its figures are those of the results."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from typer.testing import CliRunner, Result  # noqa: E402

from model import metrics  # noqa: E402
from offline_training.aggregators.fitting import FitRecipe  # noqa: E402
from offline_training.cli import train_app as app  # noqa: E402
from offline_training.comparison import compare, examples  # noqa: E402
from offline_training.comparison.report.page import FILES, HTML, MARKDOWN, render, section, write_report  # noqa: E402
from offline_training.comparison.report.tables import columns, figures_table, verdict  # noqa: E402
from offline_training.comparison.results import Comparison, Lead, best, by_method, mean_by_place, read, write  # noqa: E402
from offline_training.comparison.true_labels import TrueLabels, frequency, recency  # noqa: E402
from offline_training.datasets.labels import LabelRule  # noqa: E402
from offline_training.datasets.picture_folders import PictureFolders  # noqa: E402
from offline_training.datasets.picture_ref import PictureRef  # noqa: E402
from offline_training.datasets.prepare import prepare  # noqa: E402
from offline_training.datasets.records import DatasetEvent, DatasetItem  # noqa: E402
from offline_training.item_network.network import ItemRecipe  # noqa: E402
from offline_training.report.drawing import COLOURS  # noqa: E402
from offline_training.report.parts import Table  # noqa: E402
from offline_training.tasks.bags import PADDING, make_bags  # noqa: E402
from offline_training.tasks.catalogue import Catalogue, read_catalogue  # noqa: E402
from offline_training.tasks.evaluation import f1_lead  # noqa: E402
from offline_training.tasks.split import Histories, make_split  # noqa: E402
from tests.offline_training.datasets.sources import Given, no_step  # noqa: E402
from tests.offline_training.silent import step  # noqa: E402
from tests.pages import Page, markdown_tables, texts_of  # noqa: E402

pytestmark = pytest.mark.training

SIZE, ITEMS = 24, 60
SCRIPT = "<script>alert(1)</script> & $a_b$ | `c`"
LABELS = ["colour > blue", "colour > red", "kind > hat", "kind > shoe", f"kind > {SCRIPT}"]
SMALL = ItemRecipe(code_size=8, width=16, epochs=2, min_steps=0)
BRIEF = FitRecipe(epochs=2, drawn=1, settling=1, min_steps=0, enough_steps=0)  # a report is as good of any figures
METHODS = ["popularity", "recency of true labels", "average", "nan+cg unmasked", "codes mean+max"]
TRAINED = METHODS[2:]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Every item has a colour and a kind. The last ten items have no picture, and the picture before them is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(1)
    colours, kinds = chance.integers(0, 2, ITEMS), chance.integers(2, 5, ITEMS)
    matrix = np.zeros((ITEMS, len(LABELS)), bool)
    matrix[np.arange(ITEMS), colours] = matrix[np.arange(ITEMS), kinds] = True
    embeddings = matrix @ chance.normal(size=(len(LABELS), SIZE)) + chance.normal(scale=0.5, size=(ITEMS, SIZE))
    items = [f'"item" & {number}' for number in range(ITEMS)]
    pictures: dict[str, PictureRef] = {}
    for number, item in enumerate(items[: ITEMS - 10]):
        path = folder / f"{number}.png"
        Image.new("RGB", (120, 160), (number * 4, 60, 255 * int(colours[number]))).save(path)
        pictures[item] = PictureRef(str(path))
    pictures[items[ITEMS - 11]].path.write_bytes(b"no picture")
    return Catalogue(items, LABELS, embeddings.astype(np.float32), matrix, 0, pictures, PictureFolders([folder]))


@pytest.fixture(scope="module")
def histories() -> Histories:
    chance = np.random.default_rng(2)
    rows = [chance.permutation(ITEMS)[: chance.integers(4, 9)].astype(np.int32) for _ in range(250)]
    return Histories([f"user-{number}" for number in range(250)], rows)


@pytest.fixture(scope="module")
def found(catalogue: Catalogue, histories: Histories) -> Comparison:
    split = make_split("next", histories, catalogue)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("aggregators.item_model", "comparison.compare"):
            patch.setattr(f"offline_training.{module}.recipe_for", lambda _: BRIEF)  # pyright: ignore[reportUnknownLambdaType]
        return compare.compare("next", catalogue, [split], methods=METHODS, seeds=[0, 1], recipe=SMALL, step=step)


@pytest.fixture(scope="module")
def folder(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write(found, folder)
    write_report(folder, step, paper=True)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / HTML).read_text(encoding="utf-8"))


def test_results_read_back_as_they_were_written(found: Comparison, folder: Path) -> None:
    assert read(folder / "next.json") == found


def test_the_page_shows_every_section_method_and_figure(found: Comparison, page: Page) -> None:
    text = "\n".join(page.texts)
    for title in (
        "How to read this",
        "All methods",
        "Is the difference significant?",
        "with the textbook's precision",
        "rounded precision",
        "Recall and precision over k",
        "Learning curves",
        "Calibration",
        "Cost",
        f"Examples: {best(found)}",
    ):
        assert title in text, title
    figures, intervals, textbook, rounded, cost = page.tables[:5]
    assert [row[0] for row in figures[1:]] == [*METHODS, "at best"]
    assert figures[-1][1] == f"{found.ceilings['recall@5']:.4f}"
    for name, runs in by_method(found).items():
        assert found.methods[name] in text
        [row] = [row for row in figures if row[0] == name]
        for column in columns(found):
            value = np.mean([run.figures[column] for run in runs])
            assert row[figures[0].index(column)].startswith(f"{value:.4f} ± ")
        low, high = (np.mean([run.figures[f"micro F1 {end}"] for run in runs]) for end in ("low", "high"))
        lead = found.leads.get(name)
        ahead = [f"{lead.difference:+.4f}", f"{lead.low:.4f} to {lead.high:.4f}"] if lead else ["", ""]
        assert [row[2:] for row in intervals if row[0] == name] == [[f"{low:.4f} to {high:.4f}", *ahead]]
        for table, precision in ((textbook, "precision"), (rounded, "rounded precision")):
            recall, value = (np.mean([run.figures[f"{kind}@5"] for run in runs]) for kind in ("recall", precision))
            assert table[1][1 + METHODS.index(name)] == f"{recall:.4f} / {value:.4f}"
    assert [row[0] for row in cost[1:]] == TRAINED
    assert [row[3] for row in cost[1:]] == ["32", "32", "16"]


def test_rounded_precision_is_shown_for_the_paper_only(found: Comparison, tmp_path: Path) -> None:
    write(found, tmp_path)
    write_report(tmp_path, step)
    for name in (HTML, MARKDOWN):
        assert "ounded precision" not in (tmp_path / name).read_text(encoding="utf-8")


def test_the_verdict_says_whether_the_lead_over_a_baseline_is_more_than_chance(found: Comparison) -> None:
    leads = found.leads | {"popularity": Lead(0.1, 0.05, 0.15), "average": Lead(-0.01, -0.03, 0.01)}
    _, *said = verdict(msgspec.structs.replace(found, leads=leads))
    name = best(found)
    assert f"{name} is ahead of popularity by 0.100 [0.050, 0.150] in micro F1, which is more than chance." in said
    if name != "average":
        assert f"{name} is behind average by 0.010 [-0.010, 0.030] in micro F1, which is not more than chance." in said


def test_with_fewer_than_five_labels_the_verdict_names_no_ceiling(found: Comparison) -> None:
    first, *_ = verdict(msgspec.structs.replace(found, ceilings={}))
    assert first.endswith(").")


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    assert not page.all("script") + page.all("link")
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name.endswith("href")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_charts_are_well_formed_xml_and_name_each_method(folder: Path) -> None:
    html = (folder / HTML).read_text(encoding="utf-8")
    inside = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    beside = sorted((folder / FILES).glob("*.svg"))
    names = ["next-calibration", "next-learning", "next-micro-f1", "next-recall-precision"]
    assert [path.stem for path in beside] == names
    assert len(inside) == len(beside)
    for svg in [*inside, *(path.read_text(encoding="utf-8") for path in beside)]:
        missing = set(METHODS) - texts_of(svg)
        assert missing == (set() if "Loss by epoch" not in svg else {"popularity", "recency of true labels"})
    assert not any(colour in svg for svg in inside for colour in COLOURS.values()), (
        "the page's colours are CSS variables"
    )
    assert not any("var(--" in path.read_text(encoding="utf-8") for path in beside), "a file has real colours"


def test_markup_in_a_label_does_not_break_the_page(found: Comparison, folder: Path, page: Page) -> None:
    predicted = {scored.label for run in found.runs for prediction in run.predictions for scored in prediction.labels}
    assert LABELS[4] in predicted
    assert "<script" not in (folder / HTML).read_text(encoding="utf-8")
    assert LABELS[4] in page.texts
    markdown = (folder / MARKDOWN).read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<", markdown)
    assert any(row[0] == LABELS[4] for table in markdown_tables(markdown) for row in table)


def test_markup_in_a_method_name_does_not_break_charts_or_tables(found: Comparison) -> None:
    runs = [msgspec.structs.replace(run, method=SCRIPT) if run.method == "average" else run for run in found.runs]
    methods = {SCRIPT if name == "average" else name: text for name, text in found.methods.items()}
    leads = {SCRIPT if name == "average" else name: lead for name, lead in found.leads.items()}
    made = section(msgspec.structs.replace(found, runs=runs, methods=methods, leads=leads, costs={}), paper=True)
    for chart in (chart for block in made.blocks for chart in block.charts):
        assert SCRIPT in texts_of(chart.svg)
    page = render([made])
    assert "<script" not in page.html
    assert Page(page.html).tables[2][0][1 + METHODS.index("average")] == SCRIPT
    assert markdown_tables(page.markdown)[2][0][1 + METHODS.index("average")] == SCRIPT


def test_examples_show_the_picture_of_each_item(found: Comparison, catalogue: Catalogue, page: Page) -> None:
    assert len(found.examples) == examples.USERS
    shown = [item for example in found.examples for item in (*example.bag, *example.afterwards)]
    pictures = page.all("img")
    assert [one["alt"] for one in pictures] == shown
    for one in pictures:
        data = base64.b64decode(one["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as picture, Image.open(catalogue.pictures[one["alt"]].path) as original:
            assert (picture.format, picture.size) == ("JPEG", (96, 96))
            centre, wanted = (np.array(each.convert("RGB").getpixel((48, 48))) for each in (picture, original))
            assert np.abs(centre - wanted).max() < 12


def test_the_labels_and_predictions_of_examples_match_the_split(
    found: Comparison, catalogue: Catalogue, histories: Histories
) -> None:
    of = {tuple(catalogue.items[row] for row in rows): rows for rows in histories.rows}
    for number, example in enumerate(found.examples):
        rows = of[(*example.bag, *example.afterwards)]
        asked = np.asarray(catalogue.matrix[rows[len(example.bag) :]].any(0))
        assert example.labels == [label for label, has in zip(LABELS, asked, strict=True) if has]
        for run in found.runs:
            prediction = run.predictions[number]
            scores = [scored.score for scored in prediction.labels]
            assert scores == sorted(scores, reverse=True)
            assert all(scored.right == (scored.label in example.labels) for scored in prediction.labels)
            assert len(prediction.attention) == (len(example.bag) if run.train_loss else 0)
            if run.method == "average":
                assert prediction.attention == pytest.approx([1 / len(example.bag)] * len(example.bag), abs=1e-4)
            elif run.method == "nan+cg unmasked":
                assert sum(prediction.attention) < 0.9, "padding gets a share"


def test_without_local_pictures_the_report_says_why_there_are_no_examples(
    catalogue: Catalogue, histories: Histories, tmp_path: Path
) -> None:
    bare = Catalogue(catalogue.items, LABELS, catalogue.embeddings, catalogue.matrix, 0)
    split = make_split("profile", histories, bare)
    one = compare.compare("profile", bare, [split], methods=["average"], seeds=[0], step=step)
    write(one, tmp_path)
    write_report(tmp_path, step)
    text = " ".join(Page((tmp_path / HTML).read_text(encoding="utf-8")).texts)
    assert "No held-out user has only pictures that are local files." in text
    assert "No held-out user has only pictures that are local files." in (tmp_path / MARKDOWN).read_text()


def test_the_markdown_has_the_page_s_tables_and_no_broken_link(folder: Path, page: Page) -> None:
    text = (folder / MARKDOWN).read_text(encoding="utf-8")
    tables = markdown_tables(text)
    assert all(len({len(row) for row in table}) == 1 for table in tables)
    assert [[table[0], *table[2:]] for table in tables[:5]] == page.tables[:5]
    links = re.findall(r"!\[(?:\\.|[^\]])*\]\((.*?)\)", text)
    assert len(links) == 4 + len(page.all("img"))
    assert {path.name for path in (folder / FILES).iterdir()} == {Path(link).name for link in links}
    assert all((folder / link).is_file() for link in links)


def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "next.json").write_bytes((folder / "next.json").read_bytes())
    write_report(tmp_path, step, paper=True)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_curves_agree_with_the_figures(found: Comparison) -> None:
    for run in found.runs:
        assert run.recall_at[4] == run.figures["recall@5"]
        assert run.precision_at[4] == run.figures["precision@5"]
        pairs = sum(one.pairs for one in run.reliability)
        assert pairs == found.users["test"] * found.labels
        gap = sum(abs(one.mean_score - one.share_relevant) * one.pairs for one in run.reliability) / pairs
        assert gap == pytest.approx(run.figures["calibration error"])
        assert all(mine <= ceiling for mine, ceiling in zip(run.recall_at, found.recall_ceiling_at, strict=True))
    assert found.recall_ceiling_at[4] == found.ceilings["recall@5"]
    assert mean_by_place([[1.0, 2.0], [3.0, 6.0]]) == [2.0, 4.0]


def test_costs_are_measured_for_trained_methods_only(found: Comparison) -> None:
    assert list(found.costs) == TRAINED
    assert all(0 < cost.one_ms < cost.batch_ms for cost in found.costs.values())


def test_leads_are_differences_of_micro_f1_over_the_same_users(found: Comparison) -> None:
    chosen, methods = best(found), by_method(found)
    assert chosen
    assert list(found.leads) == [name for name in METHODS if name != chosen]

    def mean(name: str, figure: str) -> float:
        return float(np.mean([run.figures[figure] for run in methods[name]]))

    for name, lead in found.leads.items():
        assert lead.difference == pytest.approx(mean(chosen, "micro F1") - mean(name, "micro F1"), abs=0.005)
        assert lead.low <= lead.difference <= lead.high


def test_a_lead_over_the_same_users_has_a_narrower_interval_than_the_figures() -> None:
    """Two methods differ only in one more hit for every tenth of 300 users."""
    chance = np.random.default_rng(0)
    hits = chance.integers(0, 5, 300)
    ours, theirs = (np.stack([found, np.full(300, 6), np.full(300, 5)], 1) for found in (hits, hits))
    ours[::10, 0] += 1
    lead = f1_lead(ours, theirs)
    assert lead.difference == pytest.approx(2 * 30 / (300 * 11))
    own = metrics.bootstrap(ours, metrics.f1)
    assert 0 < lead.low < lead.high
    assert lead.high - lead.low < (own.high - own.low) / 3
    assert f1_lead(theirs, theirs) == (0, 0, 0)


def test_the_best_method_is_chosen_on_validation_users(found: Comparison) -> None:
    figures = {"average": 0.9, "recency of true labels": 1.0}
    runs = [
        msgspec.structs.replace(
            run, figures=run.figures | {"micro F1": 0.1, "validation micro F1": figures.get(run.method, 0.5)}
        )
        for run in found.runs
    ]
    changed = msgspec.structs.replace(found, runs=runs)
    assert best(changed) == "average", "only trained methods are candidates"
    assert figures_table(changed).strong == "average"
    assert verdict(changed)[0].startswith("average is the best trained method")


def test_tables_leave_out_figures_that_need_more_labels(found: Comparison) -> None:
    assert "recall@20" not in columns(found)
    table: Table = figures_table(found)
    assert all(len(row) == len(table.header) for row in table.rows)


def test_the_page_renders_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import offline_training.comparison.report.page"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Baselines of true labels

MATRIX = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
ROWS = np.array([[0, 1, 2], [2, 0, PADDING], [0, PADDING, PADDING]], np.int32)


def test_recency_and_frequency_grade_labels() -> None:
    assert recency(MATRIX, ROWS).tolist() == [[1, 0, 3], [0, 1, 3], [0, 3, 3]]
    assert frequency(MATRIX, ROWS).tolist() == [[2, 2, 0], [1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("grade", [recency, frequency])
def test_true_labels_name_the_labels_in_the_bag_exactly(
    catalogue: Catalogue, histories: Histories, grade: object
) -> None:
    split = make_split("profile", histories, catalogue)
    counted = TrueLabels(catalogue.matrix, split.train, recency if grade is recency else frequency)
    assert metrics.micro_f1(0.5, counted.predict(split.test.rows), split.test.targets) == 1


def test_labels_outside_the_bag_are_ranked_by_their_frequency() -> None:
    """In bags of one item, the labels are right with probability .6, .2 and .05, plus .3 when the item has them."""
    chance = np.random.default_rng(0)
    rows = chance.integers(0, 3, (5000, 1)).astype(np.int32)
    rates = np.array([0.6, 0.2, 0.05]) + 0.3 * MATRIX[rows[:, 0]]
    train = make_bags(list(rows), chance.random(rates.shape) < rates, 1)
    scores = TrueLabels(MATRIX, train, recency).predict(np.array([[0], [2]], np.int32))
    assert scores == pytest.approx(np.array([[0.9, 0.2, 0.05], [0.6, 0.5, 0.05]]), abs=0.06)
    assert metrics.reliability(
        TrueLabels(MATRIX, train, frequency).predict(rows), train.targets
    ).expected_calibration_error() == pytest.approx(0, abs=0.02)


# The commands


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, [str(one) for one in arguments])


def test_the_report_command_renders_the_same_page_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "next.json").write_bytes((folder / "next.json").read_bytes())
    done = run("report", tmp_path, "--paper")
    assert done.exit_code == 0, done.output
    assert (tmp_path / HTML).read_bytes() == (folder / HTML).read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            None,
            "expected profile.json, unseen.json, next.json or purchases.json, found notes.txt: `tastestream train compare` writes",
        ),
        ('{"task": "next", "runs": []}', "next.json: expected results of version 2, found none: run"),
        ('{"version": 1, "task": "next"}', "next.json: expected results of version 2, found 1: run"),
        (
            '{"version": 2, "task": "next"}',
            "expected a file that `tastestream train compare` wrote, found Object missing",
        ),
        (
            '{"version": 2, "tas',
            "next.json: expected a file that `tastestream train compare` wrote, found Input data was",
        ),
        (
            "[1]",
            "next.json: expected a file that `tastestream train compare` wrote, found Expected `object`, got `array`",
        ),
    ],
)
def test_files_that_are_no_results_are_refused_in_one_line(tmp_path: Path, content: str | None, complaint: str) -> None:
    (tmp_path / "notes.txt").write_text("none")
    if content is not None:
        (tmp_path / "next.json").write_text(content)
    done = run("report", tmp_path)
    assert done.exit_code == 1
    assert complaint in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / HTML).exists()


def test_results_without_runs_and_a_missing_folder_are_refused(found: Comparison, tmp_path: Path) -> None:
    done = run("report", tmp_path / "none")
    assert (done.exit_code, "found nothing" in done.output) == (1, True), done.output
    write(msgspec.structs.replace(found, runs=[]), tmp_path)
    assert "expected the runs of a comparison, found none" in run("report", tmp_path).output


@pytest.mark.slow  # the tests above read what the fixture has written
def test_compare_writes_one_report_of_all_tasks_in_the_folder(
    catalogue: Catalogue, histories: Histories, folder: Path, tmp_path: Path
) -> None:
    items = [
        DatasetItem(
            name,
            catalogue.pictures.get(name, PictureRef("https://shop.example/a.jpg")),
            tuple(tuple(LABELS[n].split(" > ")) for n in np.flatnonzero(has)),
        )
        for name, has in zip(catalogue.items, catalogue.matrix, strict=True)
    ]
    events = [
        DatasetEvent(user, catalogue.items[row], "purchase", time)
        for user, rows in zip(histories.users, histories.rows, strict=True)
        for time, row in enumerate(rows)
    ]
    shop, out = tmp_path / "shop", tmp_path / "results"
    prepare(
        Given(events, items, catalogue.folders.paths),
        "shop",
        shop,
        rule=LabelRule(2, 2, 1, 100),
        pictures=None,
        step=no_step,
    )
    embeddings = shop / "embeddings.npz"
    np.savez(embeddings, ids=catalogue.items, embeddings=catalogue.embeddings)
    assert read_catalogue(shop, embeddings).pictures == catalogue.pictures, "a URL is not a local picture"
    arguments = ("compare", shop, "--embeddings", embeddings, "--out", out, "--seeds", 1, "--method", "average")

    out.mkdir()
    (out / "next.json").write_text('{"version": 1}')
    refused = run(*arguments, "--task", "profile")
    assert refused.exit_code == 1
    assert "next.json: expected results of version 2, found 1" in refused.output
    assert not (out / "profile.json").exists(), "the command refuses before the training, not after it"

    (out / "next.json").write_bytes((folder / "next.json").read_bytes())
    done = run(*arguments, "--task", "profile")
    assert done.exit_code == 0, done.output
    made = Page((out / HTML).read_text(encoding="utf-8"))
    assert {"profile", "next"} <= {one.get("id") for one in made.all("section")}
    assert json.loads((out / "profile.json").read_text())["examples"]
