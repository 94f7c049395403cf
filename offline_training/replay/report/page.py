"""`report.html`: a replay as one file that needs nothing else. Importing it needs Jinja and Matplotlib."""

from collections.abc import Mapping

from offline_training.replay.comparing import Compared
from offline_training.replay.prequential import Rules
from offline_training.replay.report import charts, side_by_side
from offline_training.replay.report.results import Results
from offline_training.replay.report.tables import (
    day,
    facts,
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    latency_table,
)
from offline_training.replay.report.words import HOW_TO_READ, targets_of, unsaid, verdict
from offline_training.replay.summaries import DAY, MetricSummary
from offline_training.report.drawing import COLOURS
from offline_training.report.parts import Block, Table
from offline_training.report.rendering import environment

HTML = "report.html"
TITLES = {"start": "Warm and cold"}
BY_KIND = {
    "start": "Warm is a user with something in the bag when the target came; cold one without, who is answered by the bundle's prior.",
    "bag size": "Items scored in the recommendation that counted; users without a bag are left out. Lines are 95 % intervals.",
    "events of the user": "In the whole stream, those after the target too: how active the user is. Lines are 95 % intervals.",
}
"""How to read the groups of a kind; those of times need no word."""


def page(results: Results, pictures: Mapping[str, bytes]) -> str:
    """The page. pictures: JPEGs of items, by item; those of samples that are not there are told by their names."""
    known = {
        "it": results,
        "verdict": verdict(results),
        "facts": facts(results),
        "blocks": _blocks(results),
        "unsaid": unsaid(results),
        "pictures": pictures,
        "methods": methods(results),
        "figures": HOW_TO_READ,
        "targets": targets_of(results.rules),
    }
    return render("replay.html.j2", known)


def compare_page(one: Compared) -> str:
    """Finished runs side by side."""
    blocks = [Block("The runs", "The same events, the same question.", [], [side_by_side.runs_table(one)])]
    if one.groups:
        blocks += [figures_block(one.groups[0], one.rules, one.coverage), *group_blocks(one.groups, one.rules)]
    known = {"it": one, "verdict": side_by_side.verdict(one), "blocks": blocks, "figures": HOW_TO_READ}
    return render("compare.html.j2", known)


def render(template: str, known: Mapping[str, object]) -> str:
    """A template of this package."""
    templates = environment("offline_training.replay.report")
    templates.filters |= {"day": day, "days": days}
    return templates.get_template(template).render(colours=COLOURS, **known)


def methods(results: Results) -> dict[str, str]:
    """What each column is."""
    delay = results.options["delay"]
    before = f" and is at least {delay} older" if delay else ""
    return {
        "recommended": f"{results.bundle}, which the workers serve: the newest recommendation of the user that came of an event of an "
        f"earlier time{before}; the bundle's prior where there is none.",
        "popularity": f"The categories of all {targets_of(results.rules)} before, the most frequent first; no user has any other.",
        **{
            name: f"{bundle}, over the same events and at the same targets, computed from the events alone."
            for name, bundle in results.beside.items()
        },
    }


def _blocks(results: Results) -> list[Block]:
    if not results.groups:
        return []
    rules, groups = results.rules, results.groups
    found = [figures_block(groups[0], rules, results.coverage)]
    found += [
        Block(
            figures_table_title(group),
            f"{group.targets:,} targets of {group.users:,} users, without those that the prior answered.",
            [],
            figures_tables(group, rules, {}),
            folded=True,
        )
        for group in groups
        if group.name == "warm"
    ]
    found += group_blocks(groups, rules)
    if results.latency_over_time:
        found.append(
            Block(
                "Latency",
                "Milliseconds from produce to the recommendation, in the course of the run. Below, how many came.",
                [charts.latency(results.latency_over_time)],
                [latency_table(results.latency_over_time)],
                folded=True,
            )
        )
    return found


def figures_block(summary: MetricSummary, rules: Rules, coverage: Mapping[str, Mapping[str, float]]) -> Block:
    """Every figure over all targets."""
    return Block(
        figures_table_title(summary),
        f"{summary.targets:,} targets of {summary.users:,} users. In brackets, and as lines, 95 % intervals over the choice of users. "
        "Methods are measured at the same targets, so that the interval of a difference is narrower than their own suggest: where it "
        "does not hold 0, the difference is more than chance.",
        [charts.intervals(summary, rules)],
        figures_tables(summary, rules, coverage),
    )


def group_blocks(groups: list[MetricSummary], rules: Rules) -> list[Block]:
    """A block for each kind of groups: the course of two figures, and a table of more."""
    found: list[Block] = []
    for kind in kinds(groups):
        count = sum(group.kind == kind for group in groups)
        names = " / ".join(groups[0].figures)
        table: Table = group_table(kind, groups, rules)
        text = f"{BY_KIND.get(kind, 'By the time of the target; lines and bands are 95 % intervals.')} In the table: {names}."
        drawn = [charts.by_group(kind, groups, rules)] if count > 1 and kind != "start" else []
        found.append(Block(TITLES.get(kind, f"By {kind}"), text, drawn, [table], folded=bool(drawn)))
    return found


def days(milliseconds: int) -> str:
    """3 days; 1.5 days."""
    value = milliseconds / DAY
    return f"{value:.0f} days" if value >= 10 else f"{value:.2g} day{'' if value == 1 else 's'}"
