"""Shows the measurements as a table, a plot, and JSON."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import results
from tests.benchmarks.results import COLOURS
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Outcome

Measured = Mapping[str, Sequence[Outcome]]  # outcomes of the rounds, by peer


def middle(outcomes: Sequence[Outcome], what: Callable[[Outcome], float]) -> float:
    """Median of the rounds."""
    return statistics.median(what(one) for one in outcomes)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def show(measured: Measured, title: str, console: Console) -> None:
    """Print medians and the spread of the rounds."""
    table = Table(
        "peer",
        "events/s (lowest to highest)",
        "processor ms per event",
        "by process",
        "broker, ms",
        "changelog",
        title=title,
    )
    for name, outcomes in measured.items():
        parts = (
            f"{part} {middle(outcomes, lambda one, part=part: one.processor[part]):.2f}"
            for part in outcomes[0].processor
        )
        table.add_row(
            name,
            spread([one.rate for one in outcomes]),
            spread([one.used for one in outcomes], 2),
            ", ".join(parts),
            f"{middle(outcomes, lambda one: one.broker):.2f}",
            f"{middle(outcomes, lambda one: one.rows):.1f} records, {middle(outcomes, lambda one: one.changelog):,.0f} bytes",
        )
    console.print(table)
    for name in measured:
        console.print(f"{name}: {PEERS[name].what}")
    first, *others = measured
    for other in others:
        rates = ratios(measured[first], measured[other], lambda one: one.rate)
        used = ratios(measured[first], measured[other], lambda one: one.used)
        console.print(
            f"{first} / {other}, round by round: {spread(rates, 2)} times the events/s, {spread(used, 2)} times the processor time"
        )


def ratios(these: Sequence[Outcome], those: Sequence[Outcome], what: Callable[[Outcome], float]) -> list[float]:
    """The ratio of two peers in each round."""
    return [what(one) / what(other) for one, other in zip(these, those, strict=True)]


def write(measured: Measured, title: str, setting: Mapping[str, object], folder: Path) -> None:
    """Write `throughput.json` and a plot."""
    rounds = {name: [asdict(one) for one in outcomes] for name, outcomes in measured.items()}
    figures = {"setting": setting, "rounds": rounds}
    results.write(folder, "throughput", figures, partial(_draw, measured, title), (10, 1.2 + 0.6 * len(measured)))


def _draw(measured: Measured, title: str, figure: Any) -> None:
    """Plot rates on the left, processor time on the right, and a dot for each round."""
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(measured)
    for place, outcomes in enumerate(measured.values()):
        rates = [one.rate for one in outcomes]
        left.barh(place, statistics.median(rates), color=COLOURS[0])
        left.plot(rates, [place] * len(rates), "o", color="black", markersize=3)
        begin = 0.0
        for number, part in enumerate(outcomes[0].processor):
            used = middle(outcomes, lambda one, part=part: one.processor[part])
            right.barh(place, used, left=begin, color=COLOURS[number])
            begin += used
        broker = middle(outcomes, lambda one: one.broker)
        right.barh(place, broker, left=begin, color="#cccccc")
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("events/s: median, and each round")
    right.set_xlabel(
        "processor ms per event, medians\nblue: embed, or the only process; orange: profile; grey: the broker"
    )
