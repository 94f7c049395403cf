"""The report of a retraining: `report.md`, and `report.html` where Jinja and Matplotlib are installed."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from offline_training.replay.evaluation.results import write_text
from offline_training.replay.report.markdown import on_terminal, table
from offline_training.replay.report.tables import (
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    number,
)
from offline_training.replay.report.words import HOW_TO_READ, leads
from offline_training.replay.report.written import can_draw
from offline_training.report.parts import Table
from offline_training.retrain.replaying import HeldOut
from offline_training.retrain.verdict import Comparison, Lead

HTML, MARKDOWN = "report.html", "report.md"
LIMITS = (
    "The users never saw the recommendations of the next bundle. The figures show how well choices were predicted, not how the "
    "recommendations would have changed them.",
    "The next bundle learnt nothing from the held-out time. If the current bundle was trained on it, its figures are too high.",
    "Intervals are over users. They do not cover another season, or training with another seed.",
    "micro F1 has one row for each user with items before and in the held-out time. hit@k has one for each target.",
)
"""What the figures cannot show."""


@dataclass(frozen=True)
class RetrainReport:
    """All that the report says.

    Attributes:
        comparison: the verdict.
        held_out: the figures.
        facts: lines about the data, by what they tell of.
    """

    comparison: Comparison
    held_out: HeldOut
    facts: dict[str, str]

    @property
    def verdict(self) -> list[str]:
        """The verdict in sentences."""
        found, against = self.comparison, self.comparison.against
        held = f"{found.targets:,} targets of {found.users:,} users, {found.since} to {found.until}"
        word = "is not worse than" if found.passed else "may be worse than"
        first = f"{found.next.name} {found.next.version} {word} {against.name} {against.version}, by {held}."
        return [first, f"The rule: {found.rule}.", *leads(self.held_out.groups[0], self.held_out.rules)]

    @property
    def rule_table(self) -> Table:
        """The figures that the rule looks at."""
        rows = [
            [
                name,
                number(one.next),
                number(one.current),
                number(one.trend),
                _lead(one.over_current),
                _lead(one.over_trend),
            ]
            for name, one in self.comparison.figures.items()
        ]
        return Table(["", "next", "current", "trend", "next less current", "next less trend"], rows)


def _lead(lead: Lead) -> str:
    return f"{number(lead.value, sign=True)} [{number(lead.low)}, {number(lead.high)}]"


def show(report: RetrainReport, console: Console) -> None:
    """Print the figures that the rule looks at."""
    found = report.comparison
    title = f"{found.targets:,} targets of {found.users:,} users, 95 % intervals over users"
    for one in on_terminal([report.rule_table], title):
        console.print(one)


def write(report: RetrainReport, folder: Path) -> list[str]:
    """Write the reports, and return their names. Raises ReplayError when one cannot be written."""
    write_text(markdown(report), folder / MARKDOWN)
    if not can_draw():
        return [MARKDOWN]
    write_text(page(report), folder / HTML)
    return [MARKDOWN, HTML]


def markdown(report: RetrainReport) -> str:
    """The report in Markdown."""
    held = report.held_out
    parts = [f"# Retraining: {'passed' if report.comparison.passed else 'refused'}\n"]
    parts += [f"{sentence}\n" for sentence in report.verdict]
    parts += [table(report.rule_table), table(Table(["", ""], [list(fact) for fact in report.facts.items()]))]
    for summary in held.groups:
        if summary.kind == "all" or summary.name == "warm":
            parts.append(f"## {figures_table_title(summary)}\n")
            parts.append(f"{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users.\n")
            coverage = held.coverage if summary.kind == "all" else {}
            parts += [table(one) for one in figures_tables(summary, held.rules, coverage)]
    methods = " / ".join(held.groups[0].figures)
    for kind in kinds(held.groups):
        parts += [f"## By {kind}\n", f"{methods}.\n", table(group_table(kind, held.groups, held.rules))]
    parts += ["## Limits of these figures\n", "".join(f"- {sentence}\n" for sentence in LIMITS)]
    return "\n".join(parts)


def page(report: RetrainReport) -> str:
    """The report as one self-contained page."""
    from offline_training.replay.report.page import figures_block, group_blocks  # noqa: PLC0415  (needs the extra `train`)
    from offline_training.report.drawing import COLOURS  # noqa: PLC0415
    from offline_training.report.rendering import environment  # noqa: PLC0415

    held = report.held_out
    blocks = [figures_block(held.groups[0], held.rules, held.coverage), *group_blocks(held.groups, held.rules)]
    template = environment("offline_training.retrain").get_template("retrain.html.j2")
    return template.render(
        colours=COLOURS, passed=report.comparison.passed, verdict=report.verdict, rule=report.rule_table,
        facts=Table(["", ""], [list(fact) for fact in report.facts.items()]), figures=HOW_TO_READ, limits=LIMITS, blocks=blocks,
    )  # fmt: skip
