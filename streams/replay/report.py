"""What a replay found: `results.json` with every figure, `report.md` for people, a table for the terminal. Pure but for the writing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from model.metrics import Interval
from streams.messages import as_datetime
from streams.replay.prequential import Rules, Summary

RESULTS, REPORT = "results.json", "report.md"


@dataclass
class Results:
    """All that a run says."""

    dataset: str
    bundle: str
    options: dict[str, Any]
    played: dict[str, Any]
    """Events, users, from, to, answered, without recommendation and left out, each by its reason."""
    rules: Rules
    groups: list[Summary]
    without_known_category: int
    coverage: dict[str, dict[int, float]]
    latency: dict[str, float]
    """Milliseconds from produce to recommendation."""
    ages: dict[str, float]
    """Days of event time, of the recommendations at their targets."""
    check: dict[str, Any] | None = None
    """Whether online equals offline."""
    notes: list[str] = field(default_factory=list[str])


def write(results: Results, folder: Path) -> None:
    """Both files."""
    (folder / RESULTS).write_bytes(msgspec.json.format(msgspec.json.encode(_told(results)), indent=2) + b"\n")
    (folder / REPORT).write_text(markdown(results))


def _told(results: Results) -> dict[str, Any]:
    told = asdict(results)
    told["rules"]["targets"] = sorted(results.rules.targets)
    for group, summary in zip(told["groups"], results.groups, strict=True):
        group["intervals"] = {
            method: {name: list(interval) for name, interval in of.items()} for method, of in summary.intervals.items()
        }
    told["coverage"] = {
        method: {f"coverage@{k}": share for k, share in of.items()} for method, of in results.coverage.items()
    }
    return told


def facts(results: Results) -> list[tuple[str, str]]:
    """What was played and how it went, a line each."""
    played = results.played
    lines = [
        ("data set", results.dataset),
        ("bundle", results.bundle),
        ("played", f"{played['answered']:,} of {played['events']:,} events of {played['users']:,} users"),
        ("event time", f"{day(played['from'])} to {day(played['to'])}"),
    ]
    if played["now"]:
        rate = played["now"] / max(played["seconds"], 0.1)
        lines.append(("took", f"{played['seconds']:.1f} s for {played['now']:,} events, {rate:,.0f} a second"))
    if played["without_recommendation"]:
        lines.append(("without recommendation", _counts(played["without_recommendation"])))
    if played["left_out"]:
        lines.append(("left out", _counts(played["left_out"])))
    if played.get("left_out_before"):
        lines.append(("left out of the data set", _counts(played["left_out_before"])))
    targets = results.groups[0].targets if results.groups else 0
    lines.append(("targets", f"{targets:,} ({', '.join(sorted(results.rules.targets))})"))
    if results.without_known_category:
        lines.append(("no known category", f"{results.without_known_category:,} more events of that type"))
    if results.latency:
        lines.append(("produce to recommendation", f"{_percentiles(results.latency, '.0f')} ms"))
    if results.ages:
        lines.append(("age at the target", f"{_percentiles(results.ages, '.1f')} days of event time"))
    if results.check is not None:
        lines.append(("online = offline", check_line(results.check)))
    return [*lines, *(("note", note) for note in results.notes)]


def check_line(check: Mapping[str, Any]) -> str:
    """Whether what the workers said is what the fold and the bundle say."""
    said = "identical" if check["identical"] else "NOT identical"
    return (
        f"{said}: {check['compared']:,} answers; figures {'equal' if check['same_figures'] else 'differ'}, "
        f"{check['missing']:,} on one side only, {check['other_bag']:,} of another bag, {check['other_order']:,} in another order; "
        f"largest difference of a score {check['largest_difference']:.0e}"
    )


def day(milliseconds: int) -> str:
    """2020-09-22, and the time where it is not midnight."""
    moment = as_datetime(milliseconds)
    return f"{moment:%Y-%m-%d}" if milliseconds % 86_400_000 == 0 else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def main_rows(results: Results, summary: Summary) -> list[tuple[str, str, str, str, str]]:
    """Figure, recommended, popularity, difference, ceiling."""
    rows: list[tuple[str, str, str, str, str]] = []
    intervals = summary.intervals
    for name in results.rules.figures:
        ours, theirs = summary.recommended[name], summary.popularity[name]
        rows.append(
            (
                name,
                f"{number(ours)} {_interval(intervals, 'recommended', name)}".strip(),
                f"{number(theirs)} {_interval(intervals, 'popularity', name)}".strip(),
                f"{number(ours - theirs, sign=True)} {_interval(intervals, 'difference', name)}".strip(),
                number(summary.ceiling[name]) if name in summary.ceiling else "",
            )
        )
    if summary.kind == "all":
        for k in results.rules.ks:
            ours, theirs = (results.coverage[method][k] for method in ("recommended", "popularity"))
            rows.append((f"coverage@{k}", number(ours), number(theirs), number(ours - theirs, sign=True), ""))
    return rows


def terminal(results: Results) -> Table:
    """The figures over all targets."""
    [summary] = results.groups[:1]
    table = Table(
        "", "recommended", "popularity", "difference", "ceiling",
        title=f"{summary.targets:,} targets of {summary.users:,} users, 95 % intervals over users",
    )  # fmt: skip
    for row in main_rows(results, summary):
        table.add_row(*row)
    return table


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [f"# Replay of {results.dataset}\n", _table(["", ""], facts(results))]
    header = ["", "recommended", "popularity", "difference", "ceiling"]
    for summary in results.groups:
        if summary.intervals:
            title = "All targets" if summary.kind == "all" else "Targets of users with a bag (warm)"
            parts.append(
                f"## {title}\n\n{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users.\n"
            )
            parts.append(_table(header, main_rows(results, summary)))
    k = results.rules.ks[len(results.rules.ks) // 2]
    shown = (f"hit@{k}", f"recall@{k}", f"precision@{k}", f"rounded precision@{k}", f"NDCG@{k}", "MRR")
    for kind in dict.fromkeys(summary.kind for summary in results.groups if summary.kind != "all"):
        parts.append(f"## By {kind}\n\nRecommended / popularity.\n")
        rows = [
            [
                summary.name,
                f"{summary.targets:,}",
                f"{summary.users:,}",
                *(f"{number(summary.recommended[name])} / {number(summary.popularity[name])}" for name in shown),
            ]
            for summary in results.groups
            if summary.kind == kind
        ]
        parts.append(_table([kind, "targets", "users", *shown], rows))
    delay = f", at least {results.options['delay']} before" if results.options.get("delay") else ""
    parts.append(
        "At each target counts the newest recommendation of its user that came of an event of an earlier time"
        f"{delay}; the bundle's prior where "
        "there is none (cold). Popularity: the categories of all targets before. Rounded precision is what the public code of the "
        "paper calls precision: hits / scores above .5.\n"
    )
    return "\n".join(parts)


def number(value: float, *, sign: bool = False) -> str:
    """.123, without the zero before the point."""
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _interval(intervals: Mapping[str, Mapping[str, Interval]], method: str, name: str) -> str:
    if method not in intervals:
        return ""
    low, high = intervals[method][name]
    return f"[{number(low)}, {number(high)}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items())


def _percentiles(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())
