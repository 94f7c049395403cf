"""Shows the figures of a benchmark: as a line, as JSON and, if matplotlib is installed, as a plot."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

COLOURS = ("#4878a8", "#d6813c", "#6aa56e", "#8c6bb1", "#999999")


def in_turn(what: str, ratios: Sequence[float]) -> str:
    """Ratios of rounds in turn, on one line with their median."""
    return f"{what}: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.2f}"


def write(folder: Path, name: str, figures: object, draw: Callable[[Any], None], size: tuple[float, float]) -> None:
    """Write NAME.json, NAME.svg and NAME.png to a folder.

    Args:
        folder: created if it does not exist.
        name: without suffix.
        figures: what json can encode.
        draw: draws on a matplotlib figure.
        size: width and height of the figure, inches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2))
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- the JSON does not need it
    except ImportError:
        return
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"{name}.{ending}", dpi=150)
