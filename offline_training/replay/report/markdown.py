"""The report of a run in text: `report.md`, and the table on the terminal. Pure."""

from collections.abc import Sequence

from rich.table import Table as TerminalTable

from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.report.item_tables import HOW_TO_READ_ITEMS, item_limits, item_parts, item_verdict
from offline_training.replay.report.tables import (
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
from offline_training.replay.report.words import HOW_TO_READ_FIELDS, HOW_TO_READ_PAPER, limits, verdict
from offline_training.report.parts import Table

REPORT = "report.md"


def terminal(results: ReplayResults) -> list[TerminalTable]:
    """Make tables of the figures over all targets."""
    [summary] = results.groups[:1]
    title = f"{summary.targets:,} targets of {summary.users:,} users, 95 % intervals over users"
    shown = on_terminal(figures_tables(summary, results.rules, results.coverage), title)
    for one in results.fields:
        shown += on_terminal(field_tables(one), f"{fields_title(one)}: {field_counts(one)}")
    for part in item_parts(results.items):
        shown += on_terminal(part.tables, f"{part.title}: {part.text}")
    return shown


def on_terminal(tables: Sequence[Table], title: str) -> list[TerminalTable]:
    """Turn tables into those of the terminal. The first gets the title."""
    found: list[TerminalTable] = []
    for table in tables:
        shown = TerminalTable(*table.header, title="" if found else title)
        for row in table.rows:
            shown.add_row(*row)
        found.append(shown)
    return found


def markdown(results: ReplayResults) -> str:
    """Write the whole report of a run."""
    parts = [
        f"# Replay of {results.dataset}\n",
        *(f"{sentence}\n" for sentence in [*verdict(results), *item_verdict(results.items)]),
    ]
    parts.append(table(Table(["", ""], [list(fact) for fact in facts(results)])))
    for one in results.fields:
        parts += [f"## {fields_title(one)}\n", f"{field_counts(one)}\n", *map(table, field_tables(one))]
    for part in item_parts(results.items):
        parts += [f"## {part.title}\n", f"{part.text}\n", *map(table, part.tables)]
    for summary in results.groups:
        if summary.kind == "all" or summary.name == "warm":
            whole = summary.kind == "all"
            parts.append(f"## {figures_table_title(summary)}\n")
            parts.append(f"{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users.\n")
            parts += [table(one) for one in figures_tables(summary, results.rules, results.coverage if whole else {})]
    if results.groups:
        methods = " / ".join(results.groups[0].figures)
        for kind in kinds(results.groups):
            parts += [f"## By {kind}\n", f"{methods}.\n", table(group_table(kind, results.groups, results.rules))]
    if results.latency_over_time:
        parts += [
            "## Latency\n",
            "From sending an event to its recommendation, milliseconds, over the course of the run.\n",
        ]
        parts.append(table(latency_table(results.latency_over_time)))
    parts += [
        "## Limits of these figures\n",
        "".join(f"- {sentence}\n" for sentence in [*limits(results), *item_limits(results.items)]),
    ]
    delay = f", at least {results.options['delay']} earlier" if results.options.get("delay") else ""
    parts.append(
        "At each target, the newest recommendation of its user counts that an event of an earlier time caused"
        f"{delay}; without one (cold), the bundle's prior counts. "
        "Popularity: the categories of all earlier targets. Trends: those of the last 7 and 28 days before the day of the target.\n"
    )
    paper = HOW_TO_READ_PAPER if results.rules.paper else {}
    items = HOW_TO_READ_ITEMS if results.items else {}
    parts.append("".join(f"- {name}: {text}\n" for name, text in {**paper, **HOW_TO_READ_FIELDS, **items}.items()))
    parts.append(f"The fine fields are {', '.join(results.fine_fields)}.\n" if results.fine_fields else "")
    return "\n".join(parts)


def table(one: Table) -> str:
    lines = [one.header, ["---"] * len(one.header), *one.rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
