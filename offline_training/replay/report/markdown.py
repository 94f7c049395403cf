"""A replay in text: `report.md`, and the table on the terminal. Pure."""

from collections.abc import Sequence

from rich.table import Table as TerminalTable

from offline_training.replay.report.results import Results
from offline_training.replay.report.tables import (
    facts,
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    latency_table,
)
from offline_training.replay.report.words import unsaid, verdict
from offline_training.report.parts import Table

REPORT = "report.md"


def terminal(results: Results) -> list[TerminalTable]:
    """The figures over all targets."""
    [summary] = results.groups[:1]
    title = f"{summary.targets:,} targets of {summary.users:,} users, 95 % intervals over users"
    return on_terminal(figures_tables(summary, results.rules, results.coverage), title)


def on_terminal(tables: Sequence[Table], title: str) -> list[TerminalTable]:
    """The title stands over the first."""
    found: list[TerminalTable] = []
    for table in tables:
        shown = TerminalTable(*table.header, title="" if found else title)
        for row in table.rows:
            shown.add_row(*row)
        found.append(shown)
    return found


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [f"# Replay of {results.dataset}\n", *(f"{sentence}\n" for sentence in verdict(results))]
    parts.append(table(Table(["", ""], [list(fact) for fact in facts(results)])))
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
        parts += ["## Latency\n", "Milliseconds from produce to recommendation in the course of the run.\n"]
        parts.append(table(latency_table(results.latency_over_time)))
    parts += ["## What this cannot say\n", "".join(f"- {sentence}\n" for sentence in unsaid(results))]
    delay = f", at least {results.options['delay']} before" if results.options.get("delay") else ""
    parts.append(
        "At each target counts the newest recommendation of its user that came of an event of an earlier time"
        f"{delay}; the bundle's prior where "
        "there is none (cold). Popularity: the categories of all targets before. Rounded precision is what the public code of the "
        "paper calls precision: hits / scores above .5.\n"
    )
    return "\n".join(parts)


def table(one: Table) -> str:
    lines = [one.header, ["---"] * len(one.header), *one.rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
