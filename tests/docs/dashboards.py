"""Draws docs/operate/dashboards: each dashboard of `deploy/` as a real Prometheus answers it, over faults of real workers.

Run `make dashboards`. It needs what the tests on Kafka need, matplotlib, and `prometheus` (Debian has a package).
"""

import io
import json
import logging
import math
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, StrMethodFormatter
from PIL import Image

from tests.deploy.dashboards import COLUMNS, DASHBOARDS, files
from tests.docs.test_claims import ROOT
from tests.kafka.broker import KafkaBroker
from tests.kafka.monitored import Stack, broker_killed, pictures_are_gone, profile_killed, watched
from tests.kafka.prometheus import SCRAPE, Series, filled_in
from tests.kafka.system import System

FOLDER = ROOT / "docs" / "operate" / "dashboards"
CALM, FAULT = 15.0, 20.0  # seconds
WIDTH, ROW = 15.0, 0.30  # inches: of a picture, and of a row of Grafana's grid
LINES = 8  # in a legend
STAT = 18  # points
FIRING = "#d62728"
IGNORED = re.compile(r"{{(\w+)}}")


class Span(NamedTuple):
    """A time in which an alert fired."""

    alert: str
    start: float  # seconds since the epoch
    end: float


@contextmanager
def asking(stack: Stack) -> Generator[None]:
    """Ask the serve worker ten times a second for what it recommends."""
    done = threading.Event()

    def ask() -> None:
        number = 0
        while not done.wait(0.1):
            number += 1
            stack.system.get("serve", f"/v1/users/user-{number % 50}/recommendations")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def play(stack: Stack) -> tuple[float, float]:
    """Let faults happen, with calm before and after each one. Returns when it began and ended, seconds since the epoch."""
    with asking(stack):
        begun = time.time()
        for fault in (pictures_are_gone, profile_killed, broker_killed):
            time.sleep(CALM)
            with fault(stack):
                time.sleep(FAULT)
        time.sleep(CALM)
        return begun, time.time()


def drawn(stack: Stack, name: str, begun: float, ended: float) -> Figure:
    """One dashboard over that time."""
    title, _ = DASHBOARDS[name]
    panels: list[dict[str, Any]] = json.loads(files()[f"{name}.json"])["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(WIDTH, rows * ROW + 0.6))
    spans = firing(stack, begun, ended)
    top = 1 - 0.6 / figure.get_figheight()
    figure.text(0.01, 1 - 0.25 / figure.get_figheight(), title, fontsize=15, weight="bold", va="center")
    told = "   ".join(dict.fromkeys(span.alert.removeprefix("Tastestream") for span in spans))
    figure.text(
        0.99, 1 - 0.25 / figure.get_figheight(), f"fired: {told}", fontsize=8, color=FIRING, ha="right", va="center"
    )
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        height = place["h"] / rows * top
        bottom = top - place["y"] / rows * top - height
        inset_x, inset_y = 0.035, 0.55 * ROW / figure.get_figheight() * 2
        axes = figure.add_axes((left + inset_x, bottom + inset_y, width - 1.3 * inset_x, height - 2.1 * inset_y))
        axes.set_title(panel["title"], fontsize=9, loc="left")
        KINDS[panel["type"]](stack, axes, panel, begun, ended)
        if panel["type"] == "timeseries":
            for start, end in together(spans):
                axes.axvspan(start - begun, end - begun, color=FIRING, alpha=0.08, linewidth=0)
    return figure


def firing(stack: Stack, begun: float, ended: float) -> list[Span]:
    """When alerts fired."""
    found = stack.prometheus.over('ALERTS{alertstate="firing"}', begun, ended, SCRAPE)
    return [Span(one.labels["alertname"], piece[0][0], piece[-1][0]) for one in found for piece in unbroken(one.points)]


def together(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """The times in which any alert fired: start and end, seconds since the epoch."""
    found: list[tuple[float, float]] = []
    for _, start, end in sorted(spans, key=lambda span: span.start):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def stat(stack: Stack, axes: Axes, panel: Mapping[str, Any], begun: float, ended: float) -> None:
    axes.axis("off")
    found = stack.prometheus.over(filled_in(panel["targets"][0]["expr"]), begun, ended, SCRAPE)
    points = [value for one in found for _, value in one.points]
    text = shown(points[-1], panel["fieldConfig"]["defaults"]["unit"]) if points else "no data"
    axes.text(0.5, 0.4, text, fontsize=STAT, ha="center", va="center")


def timeseries(stack: Stack, axes: Axes, panel: Mapping[str, Any], begun: float, ended: float) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    number = 0
    for target in panel["targets"]:
        for one in stack.prometheus.over(filled_in(target["expr"]), begun, ended, SCRAPE):
            number += 1
            for piece in unbroken(one.points):
                axes.plot(
                    [at - begun for at, _ in piece],
                    [value for _, value in piece],
                    color=f"C{number - 1}",
                    linewidth=1,
                    label=named(target["legendFormat"], one) if piece[0] == one.points[0] and number <= LINES else None,
                )
    axes.set_xlim(0, ended - begun)
    low, high = axes.get_ylim()
    if -0.1 < low < 0 < high < 0.1:  # all of them are zero
        axes.set_ylim(0, 1)
    if unit == "bytes":
        axes.yaxis.set_major_locator(MultipleLocator(2 ** max(0, math.ceil(math.log2((high - low) / 5)))))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.yaxis.set_major_formatter(
        StrMethodFormatter("{x:g}") if unit == "none" else FuncFormatter(partial(tick, unit))
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f} s"))
    if number:
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey")


def tick(unit: str, value: float, _: object) -> str:
    return shown(value, unit)


def table(stack: Stack, axes: Axes, panel: Mapping[str, Any], begun: float, ended: float) -> None:
    axes.axis("off")
    found = stack.prometheus.instant(filled_in(panel["targets"][0]["expr"]))
    columns = sorted({label for one in found for label in one.labels})
    rows = [[one.labels.get(column, "") for column in columns] for one in found]
    if rows:
        axes.table(rows, colLabels=columns, loc="center", cellLoc="left").set_fontsize(8)


KINDS: dict[str, Callable[[Stack, Axes, Mapping[str, Any], float, float], None]] = {
    "stat": stat,
    "timeseries": timeseries,
    "table": table,
}


def unbroken(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points, divided where some are missing."""
    pieces = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > 1.5 * SCRAPE:
            pieces.append([])
        pieces[-1].append(point)
    return pieces


def named(legend: str, series: Series) -> str:
    return IGNORED.sub(lambda found: series.labels.get(found[1], ""), legend)


def shown(value: float, unit: str) -> str:
    """A number as Grafana writes it."""
    if value != value:  # noqa: PLR0124 -- NaN
        return "unknown"
    if unit == "bytes":
        return next(
            f"{value / 1024**power:.3g} {name}"
            for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB"), (0, "B"))
            if abs(value) >= 1024**power or power == 0
        )
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def main() -> None:
    """Start everything, let it fail, draw."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the load tries again and again while the broker is away
    with tempfile.TemporaryDirectory(prefix="tastestream-dashboards-") as name:
        folder = Path(name)
        (folder / "system").mkdir()
        with KafkaBroker(folder / "kafka") as broker, watched(System(broker, folder / "system"), folder) as stack:
            begun, ended = play(stack)
            for dashboard in DASHBOARDS:
                save(drawn(stack, dashboard, begun, ended), FOLDER / f"{dashboard}.webp")


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    drawing = io.BytesIO()
    figure.savefig(drawing, dpi=100, format="png")
    Image.open(drawing).convert("RGB").save(path, "WEBP", lossless=True, method=2)
    sys.stdout.write(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
