"""Renders comparisons: `report.html`, a single file, and `report.md` with its charts and pictures in a folder beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from offline_training.comparison.report import charts
from offline_training.comparison.report.tables import (
    MORE_COLUMNS,
    cost_table,
    described,
    fields_table,
    figures_table,
    intervals_table,
    paper_table,
    verdict,
)
from offline_training.comparison.results import Comparison, Example, ScoredLabel, best, by_method, read_folder
from offline_training.progress import Step
from offline_training.report.drawing import COLOURS
from offline_training.report.parts import Block
from offline_training.report.rendering import environment

HTML, MARKDOWN, FILES = "report.html", "report.md", "report_files"


@dataclass(frozen=True)
class ShownExample:
    """An example with the prediction of the best method.

    Attributes:
        example: the example.
        attention: the attention on each item of the bag.
        labels: the best labels, best first.
        missed: labels of the user that are not among `labels`.
    """

    example: Example
    attention: list[float]
    labels: list[ScoredLabel]
    missed: list[str]

    @property
    def alike(self) -> bool:
        """Whether all items have the same weight."""
        return max(self.attention) - min(self.attention) < 0.001


@dataclass(frozen=True)
class Section:
    """The part of the page about one task."""

    comparison: Comparison
    verdict: list[str]
    blocks: list[Block]
    best: str | None
    examples: list[ShownExample]
    pictures: dict[str, str]  # item -> name of its file


class RenderedReport(NamedTuple):
    """The texts of a report, and the files that the Markdown links to, by name."""

    html: str
    markdown: str
    files: dict[str, bytes]


def write_report(folder: Path, step: Step, *, paper: bool = False) -> Path:
    """Render every `TASK.json` in `folder` to the report files in it.

    Args:
        folder: folder with the results.
        step: opens a progress bar.
        paper: show the paper's table with rounded precision, too.

    Returns:
        Path of the page.

    Raises:
        DatasetError: there is no `TASK.json`, or one cannot be read.
    """
    comparisons = read_folder(folder)
    sections: list[Section] = []
    with step("report", len(comparisons)) as advance:
        for comparison in comparisons:
            sections.append(section(comparison, paper=paper))
            advance(1)
    report = render(sections, paper=paper)
    (folder / FILES).mkdir(exist_ok=True)
    for name, data in report.files.items():
        (folder / FILES / name).write_bytes(data)
    (folder / MARKDOWN).write_text(report.markdown, encoding="utf-8")
    (folder / HTML).write_text(report.html, encoding="utf-8")
    return folder / HTML


def section(one: Comparison, *, paper: bool = False) -> Section:
    """Assemble the part of the page about one task. paper: show the paper's table with rounded precision, too."""
    curves = charts.learning(one)
    blocks = [
        Block(
            "All methods",
            "Means over seeds. ± is half the distance between the lowest and the highest seed, if there are several. The last row is "
            "the best that a method can reach.",
            [],
            [figures_table(one)],
        ),
        Block(
            "Is the difference significant?",
            "Lines are 95 % intervals over the choice of users, dots are means, ticks are seeds. Grey methods are not trained; "
            f"the best trained method is orange. The last columns show {_LEADS[bool(one.trend_leads)]}",
            [charts.intervals(one)],
            [intervals_table(one)],
        ),
        *(_of_purchases(one) if one.trend_leads else _of_bags(one, paper=paper)),
        Block(
            "Learning curves",
            "Binary cross-entropy summed over labels, after each epoch, one line per seed. A training loss that falls while the "
            "validation loss rises is overfitting. The dot marks the epoch that is kept.",
            [curves] if curves else [],
            [],
        ),
        Block(
            "Cost",
            "Median time of one call of the exported network by ONNX Runtime on one core: for 64 users with 32 items each, and for one "
            "user. Bytes per item is the size of the rounded row that the workers store. Training time is that of the aggregator, "
            "without the item network.",
            [],
            [cost_table(one)] if one.costs else [],
        ),
    ]
    chosen = best(one)
    names = {item: f"{one.task}-{number}.jpg" for number, item in enumerate(one.pictures)}
    return Section(one, verdict(one), blocks, chosen, _shown(one, chosen), names)


_LEADS = {
    False: "its lead over the others on the same users: if the interval of a lead lies above 0, the best method is better.",
    True: "the lead of each method over the 28-day trend at the same purchases: if its interval lies above 0, the method is better.",
}
"""What the last columns of the table of intervals show, by whether they compare with the trend."""


def _of_purchases(one: Comparison) -> list[Block]:
    return [
        Block(
            "Each field",
            "Share of purchases whose category is among the best 3 of the field. Calibration error is how far the share of hits of the "
            "best category is from its probability.",
            [],
            [fields_table(one, "hit@3"), fields_table(one, "calibration error")],
        )
    ]


def _of_bags(one: Comparison, *, paper: bool) -> list[Block]:
    rounded = Block(
        "The paper's table, with rounded precision",
        "Recall / rounded precision of the best k labels. Rounded precision is the number of hits among the best k, divided by the "
        "number of scores among them that round to 1, as the authors' public code computes it.",
        [],
        [paper_table(one, "rounded precision")],
    )
    return [
        Block(
            "The paper's table, with the textbook's precision",
            "Recall / precision of the best k labels.",
            [],
            [paper_table(one, "precision")],
        ),
        *([rounded] if paper else []),
        Block(
            "Recall and precision over k",
            "One panel per method; the grey lines are the other methods. No recall can exceed the ceiling.",
            [charts.reach(one)],
            [],
        ),
        Block(
            "Calibration",
            "Pairs of user and label, grouped by tenths of their score. On the diagonal, 7 of 10 pairs with a score of 0.7 are right. "
            "Above the diagonal a method is underconfident, below it overconfident. Most pairs are in the lowest tenth.",
            [charts.calibration(one)],
            [],
        ),
    ]


def render(sections: list[Section], *, paper: bool = False) -> RenderedReport:
    """Render the page as HTML and as Markdown. paper: describe rounded precision."""
    files: dict[str, bytes] = {}
    for one in sections:
        files |= {f"{chart.name}.svg": chart.svg.encode() for block in one.blocks for chart in block.charts}
        files |= {name: one.comparison.pictures[item] for item, name in one.pictures.items()}
    known = {
        "sections": sections,
        "methods": {name: text for one in sections for name, text in one.comparison.methods.items()},
        "columns": {name: text for one in sections for name, text in described(one.comparison).items()}
        | {name: text for name, text in MORE_COLUMNS.items() if paper or name != "rounded precision"},
        "files": FILES,
        "colours": COLOURS,
    }
    templates = environment("offline_training.comparison.report")
    html, markdown = (templates.get_template(f"{name}.j2").render(known) for name in (HTML, MARKDOWN))
    return RenderedReport(html, markdown, files)


def _shown(one: Comparison, method: str | None) -> list[ShownExample]:
    if method is None:
        return []
    run = by_method(one)[method][0]
    return [
        ShownExample(
            example,
            prediction.attention,
            prediction.labels,
            [label for label in example.labels if label not in {scored.label for scored in prediction.labels}],
        )
        for example, prediction in zip(one.examples, run.predictions, strict=True)
    ]
