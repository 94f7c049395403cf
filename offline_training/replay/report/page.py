"""`report.html` and `compare.html`: self-contained pages. Importing this module needs Jinja and Matplotlib."""

from collections.abc import Mapping, Sequence

from offline_training.replay.evaluation.baselines import POPULARITY, WINDOWS
from offline_training.replay.evaluation.comparing import RunComparison
from offline_training.replay.evaluation.field_summaries import ALL, FieldSummary
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.summaries import DAY, MetricSummary
from offline_training.replay.report import charts, side_by_side
from offline_training.replay.report.item_tables import HOW_TO_READ_ITEMS, item_limits, item_parts, item_verdict
from offline_training.replay.report.tables import (
    day,
    facts,
    field_counts,
    field_tables,
    fields_title,
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    latency_table,
)
from offline_training.replay.report.words import (
    HOW_TO_READ,
    HOW_TO_READ_FIELDS,
    HOW_TO_READ_PAPER,
    limits,
    targets_of,
    verdict,
)
from offline_training.report.drawing import COLOURS
from offline_training.report.parts import Block, Table
from offline_training.report.rendering import environment

TITLES = {"start": "Warm and cold", "ownership": "Items that the user owns, and others"}
BY_KIND = {
    "start": "A warm user had items in the bag at the target. A cold user had none, and got the bundle's prior.",
    "ownership": "Whether the user had bought the item at an earlier time, and not returned it.",
    "bag size": "Number of items scored in the recommendation that counted; cold users are left out. Lines are 95 % intervals.",
    "events of the user": "Number of events of the user in the whole stream, also after the target. Lines are 95 % intervals.",
}
"""How to read the groups of a kind. Groups of times need no explanation."""


def page(results: ReplayResults, pictures: Mapping[str, bytes]) -> str:
    """Render the page of a run.

    Args:
        results: the results.
        pictures: JPEGs by item. An item of a sample user without one is shown by its name.
    """
    known = {
        "it": results,
        "verdict": [*verdict(results), *item_verdict(results.items)],
        "facts": facts(results),
        "blocks": _blocks(results),
        "limits": [*limits(results), *item_limits(results.items)],
        "pictures": pictures,
        "methods": methods(results),
        "figures": {
            **_how_to_read(results.fine_fields, rules=results.rules),
            **(HOW_TO_READ_ITEMS if results.items else {}),
        },
        "targets": targets_of(results.rules),
    }
    return render("replay.html.j2", known)


def compare_page(comparison: RunComparison) -> str:
    """Render the page of a comparison."""
    groups, rules = comparison.groups, comparison.rules
    runs = side_by_side.runs_table(comparison)
    blocks = [Block("The runs", "The same events, measured at the same targets.", [], [runs])]
    if groups:
        blocks += [
            *field_blocks(comparison.fields),
            figures_block(groups[0], rules, comparison.coverage),
            *group_blocks(groups, rules),
        ]
    known = {
        "it": comparison,
        "verdict": side_by_side.verdict(comparison),
        "blocks": blocks,
        "figures": _how_to_read(comparison.fine_fields, rules=rules),
    }
    return render("compare.html.j2", known)


def render(template: str, known: Mapping[str, object]) -> str:
    """Render a template of this package."""
    templates = environment("offline_training.replay.report")
    templates.filters |= {"day": day, "days": days}
    return templates.get_template(template).render(colours=COLOURS, **known)


def methods(results: ReplayResults) -> dict[str, str]:
    """Describe each method."""
    delay = results.options["delay"]
    before = f", at least {delay} older than the target" if delay else ""
    return {
        "recommended": f"{results.bundle}, which the workers serve: the newest recommendation of the user that an event of an earlier "
        f"time caused{before}; without one, the bundle's prior.",
        POPULARITY: f"The categories of all earlier {targets_of(results.rules)}, the most frequent first; the same for all users.",
        **{
            name: f"The categories of the {targets_of(results.rules)} of the {days} days before the day of the target; the same for "
            "all users."
            for name, days in WINDOWS.items()
        },
        **{
            name: f"{bundle}, measured at the same targets, and computed from the same events without the workers."
            for name, bundle in results.beside.items()
        },
    }


def _blocks(results: ReplayResults) -> list[Block]:
    if not results.groups:
        return []
    rules, groups = results.rules, results.groups
    found = [
        *field_blocks(results.fields),
        *(
            Block(one.title, one.text, [], one.tables, folded=number > 0)
            for number, one in enumerate(item_parts(results.items))
        ),
        figures_block(groups[0], rules, results.coverage),
    ]
    found += [
        Block(
            figures_table_title(group),
            f"{group.targets:,} targets of {group.users:,} users, without those where the prior counted.",
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
                "From sending an event to its recommendation, milliseconds, over the course of the run. Below: answers per second.",
                [charts.latency(results.latency_over_time)],
                [latency_table(results.latency_over_time)],
                folded=True,
            )
        )
    return found


def field_blocks(summaries: Sequence[FieldSummary]) -> list[Block]:
    """Show the figures by field."""
    return [
        Block(fields_title(one), field_counts(one), [], field_tables(one), folded=one.name != ALL) for one in summaries
    ]


def figures_block(summary: MetricSummary, rules: Rules, coverage: Mapping[str, Mapping[str, float]]) -> Block:
    """Show every figure over all targets."""
    return Block(
        figures_table_title(summary),
        f"{summary.targets:,} targets of {summary.users:,} users. Brackets and lines are 95 % intervals over users. "
        "Methods are measured at the same targets, so the interval of a difference is narrower than their own intervals suggest. A "
        "difference is significant if its interval does not contain 0.",
        [charts.intervals(summary, rules)],
        figures_tables(summary, rules, coverage),
    )


def group_blocks(groups: list[MetricSummary], rules: Rules) -> list[Block]:
    """Show each kind of groups: two figures as a chart, and more in a table."""
    found: list[Block] = []
    for kind in kinds(groups):
        count = sum(group.kind == kind for group in groups)
        names = " / ".join(groups[0].figures)
        table: Table = group_table(kind, groups, rules)
        text = f"{BY_KIND.get(kind, 'By the time of the target; lines and bands are 95 % intervals.')} In the table: {names}."
        drawn = [charts.by_group(kind, groups, rules)] if count > 1 and kind not in {"start", "ownership"} else []
        found.append(Block(TITLES.get(kind, f"By {kind}"), text, drawn, [table], folded=bool(drawn)))
    return found


def _how_to_read(fine: Sequence[str], *, rules: Rules) -> dict[str, str]:
    which = {"fine fields": f"Here: {', '.join(fine)}."} if fine else {}
    return {**HOW_TO_READ_FIELDS, **which, **HOW_TO_READ, **(HOW_TO_READ_PAPER if rules.paper else {})}


def days(milliseconds: int) -> str:
    """Format a duration in days, such as 3 days or 1.5 days."""
    value = milliseconds / DAY
    return f"{value:.0f} days" if value >= 10 else f"{value:.2g} day{'' if value == 1 else 's'}"
