"""How charts look, and how one becomes SVG. Pure: the same data give the same bytes."""

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
"""By the name of the page's CSS variable. No two alike: the page replaces them by these."""

GROUND, INK, MUTED, GRID, FAINT, FIRST, SECOND, THIRD, FOURTH = COLOURS.values()
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are no formulas
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
    """What `draw` draws.

    Args:
        name: of its file; no two charts of a page have the same.
        alt: what it shows, for those who do not see it.
        size: inches, a hundred pixels each.
    """
    file = io.StringIO()
    with mpl.rc_context(STYLE), mpl.rc_context({"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    _, _, drawn = file.getvalue().partition("<svg ")  # before it stands what only a file of its own has
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # several charts share a page, and nothing refers to these
    return Chart(name, alt, f'<svg role="img" aria-label="{escape(alt)}" {drawn}', round(100 * size[0]))
