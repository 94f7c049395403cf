"""Finished runs side by side, in text: on the terminal and in `compare.md`. Pure."""

from rich.table import Table as TerminalTable

from offline_training.replay.comparing import Compared
from offline_training.replay.report.markdown import on_terminal, table
from offline_training.replay.report.tables import (
    check_line,
    counts,
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    percentiles,
)
from offline_training.replay.report.words import leads
from offline_training.report.parts import Table

JSON, MARKDOWN, HTML = "compare.json", "compare.md", "compare.html"


def runs_table(one: Compared) -> Table:
    """What each run is, a column each."""
    rows = [
        ["bundle", *(run["bundle"] for run in one.runs.values())],
        ["played", *(f"{run['answered']:,} of {run['events']:,} events" for run in one.runs.values())],
        ["without recommendation", *(counts(run["without_recommendation"]) or "-" for run in one.runs.values())],
        [
            "produce to recommendation, ms",
            *(percentiles(run["latency"], ".0f") or "-" for run in one.runs.values()),
        ],
        ["age at the target, days", *(percentiles(run["ages"], ".1f") or "-" for run in one.runs.values())],
        [
            "online = offline",
            *("not checked" if run["check"] is None else check_line(run["check"]).partition(":")[0] for run in one.runs.values()),
        ],
    ]  # fmt: skip
    return Table(["", *one.runs], rows)


def verdict(one: Compared) -> list[str]:
    """Who is ahead of the first."""
    if not one.groups:
        return ["There were no targets to measure at."]
    return [*leads(one.groups[0], one.rules), *one.notes]


def terminal(one: Compared) -> list[TerminalTable]:
    """The runs, and their figures over all targets."""
    shown = on_terminal([runs_table(one)], f"{len(one.runs)} runs over the events of {one.dataset}")
    if one.groups:
        summary = one.groups[0]
        title = f"{summary.targets:,} targets of {summary.users:,} users, 95 % intervals over users"
        shown += on_terminal(figures_tables(summary, one.rules, one.coverage), title)
    return shown


def markdown(one: Compared) -> str:
    """The whole comparison."""
    parts = [f"# Replays of {one.dataset}\n", *(f"{sentence}\n" for sentence in verdict(one)), table(runs_table(one))]
    for summary in one.groups:
        if summary.kind == "all" or summary.name == "warm":
            coverage = one.coverage if summary.kind == "all" else {}
            parts.append(f"## {figures_table_title(summary)}\n")
            parts.append(f"{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users.\n")
            parts += [table(each) for each in figures_tables(summary, one.rules, coverage)]
    for kind in kinds(one.groups):
        parts += [f"## By {kind}\n", f"{' / '.join(one.runs)}.\n", table(group_table(kind, one.groups, one.rules))]
    return "\n".join(parts)
