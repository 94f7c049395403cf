"""Side-by-side results of several runs in text: on the terminal and in `compare.md`. Pure."""

from rich.table import Table as TerminalTable

from offline_training.replay.evaluation.comparing import RunComparison
from offline_training.replay.report.markdown import on_terminal, table
from offline_training.replay.report.tables import (
    check_line,
    counts,
    field_counts,
    field_tables,
    fields_title,
    figures_table_title,
    figures_tables,
    group_table,
    kinds,
    percentiles,
)
from offline_training.replay.report.words import leads, trend_verdict
from offline_training.report.parts import Table

JSON, MARKDOWN, HTML = "compare.json", "compare.md", "compare.html"


def runs_table(comparison: RunComparison) -> Table:
    """Describe the runs, one column each."""
    runs = comparison.runs
    rows = [
        ["bundle", *(run["bundle"] for run in runs.values())],
        ["played", *(f"{run['answered']:,} of {run['events']:,} events" for run in runs.values())],
        ["without recommendation", *(counts(run["without_recommendation"]) or "-" for run in runs.values())],
        [
            "latency, ms",
            *(percentiles(run["latency"], ".0f") or "-" for run in runs.values()),
        ],
        ["age at the target, days", *(percentiles(run["ages"], ".1f") or "-" for run in runs.values())],
        [
            "online = offline",
            *("not checked" if run["check"] is None else check_line(run["check"]).partition(":")[0] for run in runs.values()),
        ],
    ]  # fmt: skip
    return Table(["", *runs], rows)


def verdict(comparison: RunComparison) -> list[str]:
    """Say which runs are better than the first."""
    if not comparison.groups:
        return ["There are no targets."]
    return [*by_trend(comparison), *leads(comparison.groups[0], comparison.rules), *comparison.notes]


def by_trend(comparison: RunComparison) -> list[str]:
    """Say of each run whether it is ahead of the 28-day trend. Empty where the figures by field cannot be compared."""
    [summary] = comparison.fields[:1] or [None]
    return [] if summary is None else [trend_verdict(summary.verdict(run), f"{run} is") for run in comparison.runs]


def terminal(comparison: RunComparison) -> list[TerminalTable]:
    """Make tables of the runs and their figures over all targets."""
    shown = on_terminal(
        [runs_table(comparison)], f"{len(comparison.runs)} runs over the events of {comparison.dataset}"
    )
    if comparison.groups:
        summary = comparison.groups[0]
        title = f"{summary.targets:,} targets of {summary.users:,} users, 95 % intervals over users"
        shown += on_terminal(figures_tables(summary, comparison.rules, comparison.coverage), title)
    for one in comparison.fields:
        shown += on_terminal(field_tables(one), f"{fields_title(one)}: {field_counts(one)}")
    return shown


def markdown(comparison: RunComparison) -> str:
    """Write the whole comparison."""
    parts = [
        f"# Replays of {comparison.dataset}\n",
        *(f"{sentence}\n" for sentence in verdict(comparison)),
        table(runs_table(comparison)),
    ]
    for one in comparison.fields:
        parts += [f"## {fields_title(one)}\n", f"{field_counts(one)}\n", *map(table, field_tables(one))]
    for summary in comparison.groups:
        if summary.kind == "all" or summary.name == "warm":
            coverage = comparison.coverage if summary.kind == "all" else {}
            parts.append(f"## {figures_table_title(summary)}\n")
            parts.append(f"{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users.\n")
            parts += [table(each) for each in figures_tables(summary, comparison.rules, coverage)]
    for kind in kinds(comparison.groups):
        parts += [
            f"## By {kind}\n",
            f"{' / '.join(comparison.runs)}.\n",
            table(group_table(kind, comparison.groups, comparison.rules)),
        ]
    return "\n".join(parts)
