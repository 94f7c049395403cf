"""The charts of a replay, as SVG. Pure: equal data gives equal bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from offline_training.replay.answers.latency import LatencySpan
from offline_training.replay.evaluation.baselines import BASELINES
from offline_training.replay.evaluation.prequential import Rules
from offline_training.replay.evaluation.summaries import MetricSummary
from offline_training.report.drawing import FAINT, FIRST, FOURTH, MUTED, SECOND, THIRD, chart
from offline_training.report.parts import Chart

SPREAD = 0.5  # share of a group's width over which its methods are spread
MANY = 8  # above so many groups, methods are lines, and only the first has a band
ROOM = 55  # characters that fit under an axis


def intervals(summary: MetricSummary, rules: Rules) -> Chart:
    """Draw the figures of each method over all targets, with their intervals."""
    methods = list(summary.figures)
    names = (f"hit@{rules.k}", f"recall@{rules.k}", "MRR")
    styles = _styles(methods)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(names), sharey=True)
        for axes, name in zip(panels, names, strict=True):
            for place, method in enumerate(reversed(methods)):
                colour = styles[method]["color"]
                low, high = summary.intervals[method][name]
                value = summary.figures[method][name]
                axes.plot([low, high], [place, place], color=colour, linewidth=2.2)
                axes.plot([value], [place], "o", color=colour, markersize=5)
                axes.annotate(f"{value:.3f}", (value, place), (0, 6), textcoords="offset points", ha="center")
            axes.set_title(name)
            axes.margins(x=0.15)
            axes.grid(visible=False, axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylim(-0.6, len(methods) - 0.3)
        panels[0].set_yticks(range(len(methods)), list(reversed(methods)))

    alt = f"{', '.join(names)} of each method with their intervals"
    return chart("methods", alt, (9.0, 0.9 + 0.42 * len(methods)), draw)


def by_group(kind: str, groups: Sequence[MetricSummary], rules: Rules) -> Chart:
    """Draw hit@k and recall@k of each method by group, and the number of targets of each group."""
    some = [group for group in groups if group.kind == kind]
    styles = _styles(list(some[0].figures))
    places = np.arange(len(some))
    line = len(some) > MANY

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
        for column, name in enumerate((f"hit@{rules.k}", f"recall@{rules.k}")):
            upper, lower = panels[0][column], panels[1][column]
            for number, (method, style) in enumerate(styles.items()):
                shift = 0.0 if line else SPREAD * ((number + 0.5) / len(styles) - 0.5)
                values = [group.figures[method][name] for group in some]
                ends = np.array([group.intervals[method][name] for group in some])
                if not line:
                    upper.vlines(places + shift, ends[:, 0], ends[:, 1], color=style["color"], linewidth=1.2)
                elif number == 0:
                    upper.fill_between(places, ends[:, 0], ends[:, 1], color=style["color"], alpha=0.15, linewidth=0)
                upper.plot(places + shift, values, marker="o", markersize=3.5, label=method, **style)
            upper.set_title(name)
            lower.bar(places, [group.targets for group in some], color=FAINT, width=0.7)
            lower.set_ylabel("targets" if column == 0 else "")
            lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
            lower.grid(visible=False, axis="x")
            lower.set_xlabel(kind)
            _name_groups(lower, [group.name for group in some])
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 4))

    name = f"by-{kind.replace(' ', '-')}"
    return chart(name, f"hit@{rules.k} and recall@{rules.k} by {kind}", (9.0, 3.8), draw)


def latency(spans: Sequence[LatencySpan]) -> Chart:
    """Draw percentiles of the latency over the course of the run, and answers per second."""
    middles = [(span.begin + span.end) / 2 for span in spans]

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for name, colour in (("p50", FIRST), ("p95", SECOND), ("p99", MUTED)):
            values = [getattr(span, name) for span in spans]
            upper.plot(middles, values, marker="o", markersize=3, color=colour, label=name)
        upper.set_ylim(bottom=0)
        upper.set_ylabel("ms")
        widths = [span.end - span.begin for span in spans]
        rates = [span.answers / width for span, width in zip(spans, widths, strict=True)]
        lower.bar(middles, rates, color=FAINT, width=[0.9 * width for width in widths])
        lower.set_ylabel("answers/s")
        lower.yaxis.set_major_locator(MaxNLocator(2))
        lower.set_xlabel("time of the run")
        lower.xaxis.set_major_formatter(FuncFormatter(_clock))
        figure.legend(*upper.get_legend_handles_labels(), loc="outside upper left", ncols=3)

    return chart("latency", "Latency over the course of the run", (9.0, 3.4), draw)


def _styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Choose a colour for each method, then a stroke when the colours run out. The baselines stay in the background."""
    colours = (FIRST, SECOND, THIRD, FOURTH)
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        number = len(found.keys() - set(BASELINES))
        stroke = ("-", "-.", ":")[min(number // len(colours), 2)]
        found[method] = {"color": colours[number % len(colours)], "linestyle": stroke}
        if method in BASELINES:
            found[method] = {"color": MUTED, "linestyle": (":", "-.", "--")[BASELINES.index(method)]}
    return found


def _name_groups(axes: Axes, names: Sequence[str]) -> None:
    step = -(-sum(len(name) + 2 for name in names) // ROOM)
    axes.set_xticks(range(0, len(names), step), names[::step])


def _clock(seconds: float, _: object = None) -> str:
    """Format seconds as 1:05 or 2:01:05; below a minute as 5 s."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
