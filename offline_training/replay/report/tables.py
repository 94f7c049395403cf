"""The figures of a replay as tables of text. Pure."""

from collections.abc import Mapping, Sequence

from model.metrics import Interval
from offline_training.replay.answers.latency import LatencySpan
from offline_training.replay.evaluation.baselines import BASELINES, MONTH
from offline_training.replay.evaluation.field_summaries import ALL, FieldLead, FieldSummary
from offline_training.replay.evaluation.fields import BITS
from offline_training.replay.evaluation.learnt import Learnt
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.evaluation.results import ReplayResults
from offline_training.replay.evaluation.summaries import MetricSummary
from offline_training.report.parts import Table
from streams.messages import as_datetime

ROWS = 12  # maximum number of rows of the latency table


def facts(results: ReplayResults) -> list[tuple[str, str]]:
    """List facts about the run: what was played, and how it went."""
    played = results.played
    lines = [("data set", results.dataset), ("bundle", results.bundle)]
    if results.beside:
        named = (bundle if bundle.startswith(name) else f"{name} ({bundle})" for name, bundle in results.beside.items())
        lines.append(("beside it", ", ".join(named)))
    lines += [("learnt from", learnt_line(one)) for one in results.learnt.values() if one is not None]
    lines += [
        ("played", f"{played['answered']:,} of {played['events']:,} events of {played['users']:,} users"),
        ("event time", f"{day(played['from'])} to {day(played['to'])}"),
    ]
    if played["now"]:
        rate = played["now"] / max(played["seconds"], 0.1)
        lines.append(("took", f"{played['seconds']:.1f} s for {played['now']:,} events, {rate:,.0f} events/s"))
    if played["without_recommendation"]:
        lines.append(("without recommendation", counts(played["without_recommendation"])))
    if played["left_out"]:
        lines.append(("left out", counts(played["left_out"])))
    if played.get("left_out_before"):
        lines.append(("left out of the data set", counts(played["left_out_before"])))
    targets = results.groups[0].targets if results.groups else 0
    lines.append(("targets", f"{targets:,} ({', '.join(sorted(results.rules.targets))})"))
    if results.options.get("measured"):
        lines.append(("measured at", f"targets of the users in {results.options['measured']} only"))
    if results.without_known_category:
        lines.append(("no known category", f"{results.without_known_category:,} more events of that type"))
    if results.latency:
        lines.append(("latency", f"{percentiles(results.latency, '.0f')} ms"))
    if results.ages:
        lines.append(("age at the target", f"{percentiles(results.ages, '.1f')} days of event time"))
    if results.check is not None:
        lines.append(("online = offline", check_line(results.check)))
    return [*lines, *(("note", note) for note in results.notes)]


def learnt_line(one: Learnt) -> str:
    """Describe what a bundle learnt from, and how much of it was played."""
    when = f", {one.date}" if one.date else ""
    learnt = f"pictures of {one.source}, no events"
    if one.events:
        learnt = f"{one.events:,} events of {one.users:,} users of {one.source}, {one.from_time} to {one.to_time}"
    told = f"{one.bundle}{when}: {learnt}: {one.command}"
    seen = [
        f"{known / compared:.0%} of the {what}"
        for what, known, compared in (
            ("users", one.known_users, one.compared_users),
            ("events", one.known_events, one.compared_events),
        )
        if known
    ]
    return f"{told}. It learnt from {' and '.join(seen)} that were played" if seen else told


def check_line(check: Mapping[str, object]) -> str:
    """Describe the check: whether the answers of the workers equal the expected ones."""
    verdict = "identical" if check["identical"] else "NOT identical"
    return (
        f"{verdict}: {check['compared']:,} answers; figures {'equal' if check['same_figures'] else 'differ'}, "
        f"{check['missing']:,} on one side only, {check['other_bag']:,} with another bag, {check['other_order']:,} in another order; "
        f"largest difference of a score {check['largest_difference']:.0e}"
    )


def figures_tables(summary: MetricSummary, rules: Rules, coverage: Mapping[str, Mapping[str, float]]) -> list[Table]:
    """Make tables of all figures with their intervals, and of the differences. One difference joins the first table.

    Args:
        summary: the figures of a group.
        rules: name the figures.
        coverage: by method and figure; empty when the summary is not of all targets.
    """
    methods = list(summary.figures)
    leads = [f"{one.one} less {one.other}" for one in summary.differences]
    rows: list[list[str]] = []
    ahead: list[list[str]] = []
    for name in rules.figures:
        rows.append([name, *(_valued(summary.figures[one][name], summary.intervals[one][name]) for one in methods)])
        ahead.append(
            [name, *(_valued(*lead(summary, number, name), sign=True) for number in range(len(summary.differences)))]
        )
    ceilings = [number(summary.ceiling[name]) if name in summary.ceiling else "" for name in rules.figures]
    for name in next(iter(coverage.values()), {}):
        of = {method: coverage[method][name] for method in methods}
        rows.append([name, *(number(of[method]) for method in methods)])
        ahead.append([name, *(number(of[one.one] - of[one.other], sign=True) for one in summary.differences)])
        ceilings.append("")
    if len(leads) > 1:
        first = Table(["", *methods, "ceiling"], [[*row, end] for row, end in zip(rows, ceilings, strict=True)])
        return [first, Table(["", *leads], ahead)]
    joined = [[*row, *more[1:], end] for row, more, end in zip(rows, ahead, ceilings, strict=True)]
    return [Table(["", *methods, *leads, "ceiling"], joined)]


def field_tables(summary: FieldSummary) -> list[Table]:
    """Make a table of the figures by field and of the leads over the 28-day trend. Several leads have a table of their own."""
    methods = list(summary.figures)
    compared = [one for one in methods if one not in BASELINES and one in summary.leads]
    leads = [f"{one} less {MONTH}" for one in compared]
    rows: list[list[str]] = []
    ahead: list[list[str]] = []
    for figure, count in summary.counts.items():
        name = f"{figure} (fewer are better)" if figure == BITS else figure
        of = (summary.figures[method].get(figure) for method in methods)
        rows.append([name, *("" if value is None else number(value) for value in of), f"{count:,}"])
        found = (summary.leads[one].get(figure) for one in compared)
        ahead.append([name, *("" if one is None else _lead(one) for one in found)])
    if len(compared) > 1:
        return [Table(["", *methods, "targets"], rows), Table(["", *leads], ahead)]
    joined = [[*row[:-1], *more[1:], row[-1]] for row, more in zip(rows, ahead, strict=True)]
    return [Table(["", *methods, *leads, "targets"], joined)]


def fields_title(summary: FieldSummary) -> str:
    """The title of the tables by field."""
    return "By field" if summary.name == ALL else f"By field: {summary.name}"


def field_counts(summary: FieldSummary) -> str:
    """How many targets there are."""
    return f"{summary.targets:,} targets of {summary.users:,} users; 95 % intervals over users."


def _lead(one: FieldLead) -> str:
    return f"{number(one.difference, sign=True)} {interval(Interval(one.low, one.high))}"


def figures_table_title(summary: MetricSummary) -> str:
    """The title of a table of all figures."""
    return "All targets" if summary.kind == "all" else "Targets of users with a bag (warm)"


def lead(summary: MetricSummary, place: int, figure: str) -> tuple[float, Interval | None]:
    """The difference of a pair in a figure, and its interval if there is one. place: index of the pair."""
    pair = summary.differences[place]
    return summary.figures[pair.one][figure] - summary.figures[pair.other][figure], pair.intervals.get(figure)


def group_table(kind: str, groups: Sequence[MetricSummary], rules: Rules) -> Table:
    """Make a table of the groups of a kind, one row each. A cell holds a figure of all methods, in their order."""
    k = rules.k
    shown = [f"hit@{k}", f"recall@{k}", f"precision@{k}", f"rounded precision@{k}", f"NDCG@{k}", "MRR"]
    shown = [name for name in shown if name in rules.figures]
    rows = [
        [
            group.name,
            f"{group.targets:,}",
            f"{group.users:,}",
            *(" / ".join(number(figures[name]) for figures in group.figures.values()) for name in shown),
        ]
        for group in groups
        if group.kind == kind
    ]
    return Table([kind, "targets", "users", *shown], rows)


def kinds(groups: Sequence[MetricSummary]) -> list[str]:
    """List the kinds of groups, without that of all targets."""
    return list(dict.fromkeys(group.kind for group in groups if group.kind != "all"))


def latency_table(spans: Sequence[LatencySpan]) -> Table:
    """Make a table of the latency over the course of the run, milliseconds. Shows at most `ROWS` spans."""
    step = -(-len(spans) // ROWS) if spans else 1
    rows = [
        [
            f"{span.begin:,.1f} to {span.end:,.1f} s",
            f"{span.answers:,}",
            *(f"{value:,.0f}" for value in (span.p50, span.p95, span.p99)),
        ]
        for span in spans[::step]
    ]
    return Table(["time of the run", "answers", "p50", "p95", "p99"], rows)


def day(milliseconds: int) -> str:
    """Format a time as 2020-09-22; with the time of day unless it is midnight."""
    moment = as_datetime(milliseconds)
    return f"{moment:%Y-%m-%d}" if milliseconds % 86_400_000 == 0 else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def number(value: float, *, sign: bool = False) -> str:
    """Format as .123, without the zero before the point."""
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def interval(ends: Interval) -> str:
    return f"[{number(ends.low)}, {number(ends.high)}]"


def counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in of.items())


def percentiles(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def _valued(value: float, ends: Interval | None, *, sign: bool = False) -> str:
    return number(value, sign=sign) + ("" if ends is None else f" {interval(ends)}")
