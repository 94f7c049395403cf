"""Draws charts as SVG, in one style. The same data always give the same bytes."""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from offline_training.report.parts import Chart

COLOURS = {
    "ground": "#fdfdfc",
    "ink": "#1f2a37",
    "muted": "#6b7685",
    "grid": "#dfe3e8",
    "faint": "#c6ccd4",
    "first": "#1d5fa8",
    "second": "#c2571a",
    "third": "#2c7a55",
    "fourth": "#7d4aa5",
}
"""Colours by the name of the page's CSS variable. All differ: the page replaces each colour by its variable."""

GROUND, INK, MUTED, GRID, FAINT, FIRST, SECOND, THIRD, FOURTH = COLOURS.values()
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with a $ is not a formula
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def chart(name: str, alt: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Chart:
    """Draw a chart.

    Args:
        name: file name without suffix; unique on a page.
        alt: text alternative: what the chart shows.
        size: width and height in inches of 100 pixels.
        draw: draws into the figure.
    """
    file = io.StringIO()
    with mpl.rc_context(STYLE), mpl.rc_context({"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    _, _, drawn = file.getvalue().partition("<svg ")  # drop the XML header, which a page does not need
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # ids must be unique on a page, and nothing refers to these
    return Chart(name, alt, f'<svg role="img" aria-label="{escape(alt)}" {drawn}', round(100 * size[0]))
