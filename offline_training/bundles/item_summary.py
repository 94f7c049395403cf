"""The figures of recommended items at the end of `tastestream evaluate --items` and `train bundle --items`: tables and a sentence."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from model.field_metrics import Paired
from model.item_search.item_metrics import FIGURES
from offline_training.report import sentences
from offline_training.tasks.item_figures import GROUPS
from offline_training.tasks.item_methods import METHODS, RECOMMENDED

Measured = Mapping[str, Mapping[str, float]]
"""Figures by name, by group and method: `test/items: all, recommended`."""

PARTS = {"test": "held-out users", "apart": "users that are set apart"}
STRONG = "popular in 7 days"  # the baseline of the sentence
FIGURE = FIGURES[0]


def items_group(part: str, name: str) -> str:
    """The name in a manifest of figures that `MeasuredItems.figures` names `name`."""
    return f"{part}/items: {name}"


def show_items(console: Console, measured: Measured, bundle: str) -> None:
    """Print a table for each part and group of targets, with a sentence for all targets of a part.

    Args:
        console: where to print.
        measured: the figures. Others than those of items are left out.
        bundle: name of the bundle.
    """
    for part, users in PARTS.items():
        for group in GROUPS:
            own = measured.get(items_group(part, f"{group}, {RECOMMENDED}"))
            if own is None:
                continue
            title = f"{bundle}, items: {own['purchases']:,.0f} purchases of {users}, {group}"
            table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
            table.add_column("", no_wrap=True)
            for figure in FIGURES:
                table.add_column(figure, justify="right")
            for method in METHODS:
                theirs = measured.get(items_group(part, f"{group}, {method}"))
                if theirs is not None:
                    table.add_row(method, *(f"{theirs[figure]:.4f}" for figure in FIGURES))
            console.print(table)
            if group == GROUPS[0]:
                lead = Paired(*(own[f"{FIGURE} - {STRONG}{end}"] for end in ("", " low", " high")))
                said = sentences.lead("The item ranking", f"what was {STRONG}", FIGURE, lead)
                console.print(f"{said}.", soft_wrap=True, markup=False, highlight=False)
