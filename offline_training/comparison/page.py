"""A comparison as a page: `report.html`, which is one file, and `report.md` with its charts and pictures beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from offline_training.comparison import charts
from offline_training.comparison.results import Comparison, Example, Guess, best, by_method, read_folder
from offline_training.comparison.tables import (
    COLUMNS,
    MORE_COLUMNS,
    cost_table,
    figures_table,
    intervals_table,
    paper_table,
    verdict,
)
from offline_training.progress import Step
from offline_training.report.drawing import COLOURS
from offline_training.report.parts import Block
from offline_training.report.rendering import environment

HTML, MARKDOWN, FILES = "report.html", "report.md", "report_files"


@dataclass(frozen=True)
class Shown:
    """An example, and what the best method says of it. missed: labels of the user that are not among the guesses."""

    example: Example
    attention: list[float]
    guesses: list[Guess]
    missed: list[str]

    @property
    def alike(self) -> bool:
        """Whether all items weigh the same."""
        return max(self.attention) - min(self.attention) < 0.001


@dataclass(frozen=True)
class Section:
    """A task's part of the page."""

    comparison: Comparison
    verdict: list[str]
    blocks: list[Block]
    best: str | None
    examples: list[Shown]
    pictures: dict[str, str]  # item -> name of its file


class Report(NamedTuple):
    """Texts, and the files that the Markdown links to, by name."""

    html: str
    markdown: str
    files: dict[str, bytes]


def write_report(folder: Path, step: Step) -> Path:
    """Render all `TASK.json` in `folder` into it; tells where the page is. Raises DatasetError when there is none."""
    comparisons = read_folder(folder)
    sections: list[Section] = []
    with step("report", len(comparisons)) as advance:
        for comparison in comparisons:
            sections.append(section(comparison))
            advance(1)
    report = render(sections)
    (folder / FILES).mkdir(exist_ok=True)
    for name, data in report.files.items():
        (folder / FILES / name).write_bytes(data)
    (folder / MARKDOWN).write_text(report.markdown, encoding="utf-8")
    (folder / HTML).write_text(report.html, encoding="utf-8")
    return folder / HTML


def section(one: Comparison) -> Section:
    """All that the page tells of a task."""
    curves = charts.learning(one)
    blocks = [
        Block(
            "All methods",
            "Means over seeds, ± half the distance between the lowest and the highest where there are several.",
            [],
            [figures_table(one)],
        ),
        Block(
            "More than chance?",
            "A line is the 95 % interval over the choice of users, a dot the mean, a tick a seed; grey is not trained, orange the best "
            "trained method. The last columns tell what it is ahead by, on the same users: with an interval above 0 it is better.",
            [charts.intervals(one)],
            [intervals_table(one)],
        ),
        Block(
            "In the paper's form, precision by the textbook",
            "Recall / precision of the best k labels.",
            [],
            [paper_table(one, "precision")],
        ),
        Block(
            "In the paper's form, rounded precision",
            "Recall / hits among the best k divided by the scores among them that round to 1, as the authors' public code computes it.",
            [],
            [paper_table(one, "rounded precision")],
        ),
        Block(
            "Recall and precision over k",
            "One panel for each method; the grey lines behind it are all the others. No recall can be above the ceiling.",
            [charts.reach(one)],
            [],
        ),
        Block(
            "Learning curves",
            "Binary cross-entropy summed over labels, after each epoch, a line for each seed. A training loss that falls while that on "
            "validation users rises is learning by heart; the epoch with the dot is the one that is kept.",
            [curves] if curves else [],
            [],
        ),
        Block(
            "Calibration",
            "Pairs of user and label in tenths of their score: on the diagonal, what has a score of 0.7 comes true in 7 of 10 pairs. "
            "Above it a method is too careful, below it too sure. Most pairs are in the lowest tenth.",
            [charts.calibration(one)],
            [],
        ),
        Block(
            "Cost",
            "A call of the exported network by ONNX Runtime on one core, median: 64 users with 32 items each, and one user. Bytes for "
            "an item are what the workers keep of it, rounded. Training is that of the aggregator, without an item network's.",
            [],
            [cost_table(one)] if one.costs else [],
        ),
    ]
    chosen = best(one)
    names = {item: f"{one.task}-{number}.jpg" for number, item in enumerate(one.pictures)}
    return Section(one, verdict(one), blocks, chosen, _shown(one, chosen), names)


def render(sections: list[Section]) -> Report:
    """The page in both forms."""
    files: dict[str, bytes] = {}
    for one in sections:
        files |= {f"{chart.name}.svg": chart.svg.encode() for block in one.blocks for chart in block.charts}
        files |= {name: one.comparison.pictures[item] for item, name in one.pictures.items()}
    known = {
        "sections": sections,
        "methods": {name: text for one in sections for name, text in one.comparison.methods.items()},
        "columns": COLUMNS | MORE_COLUMNS,
        "files": FILES,
        "colours": COLOURS,
    }
    templates = environment("offline_training.comparison")
    html, markdown = (templates.get_template(f"{name}.j2").render(known) for name in (HTML, MARKDOWN))
    return Report(html, markdown, files)


def _shown(one: Comparison, method: str | None) -> list[Shown]:
    if method is None:
        return []
    run = by_method(one)[method][0]
    return [
        Shown(
            example,
            answer.attention,
            answer.guesses,
            [label for label in example.labels if label not in {guess.label for guess in answer.guesses}],
        )
        for example, answer in zip(one.examples, run.answers, strict=True)
    ]
