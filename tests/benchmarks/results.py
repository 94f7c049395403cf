"""Where a benchmark leaves its figures: as JSON and, where matplotlib is installed, as a plot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLOURS = ("#4878a8", "#d6813c", "#6aa56e", "#8c6bb1", "#999999")


def write(folder: Path, name: str, figures: object, draw: Callable[[Any], None], size: tuple[float, float]) -> None:
    """NAME.json, NAME.svg and NAME.png in a folder.

    draw: what fills the matplotlib figure, which is `size` inches wide and high.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2))
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- the figures are worth having without it
    except ImportError:
        return
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"{name}.{ending}", dpi=150)
