"""The figures of recommended items as tables of text, and a sentence of verdict. Pure."""

from typing import NamedTuple

from model.field_metrics import Paired
from model.item_search.item_metrics import FIGURES
from offline_training.replay.evaluation.items import ItemResults
from offline_training.report import sentences
from offline_training.report.parts import Table
from offline_training.tasks.item_figures import GROUPS
from offline_training.tasks.item_methods import METHODS, RECOMMENDED

STRONG = "popular in 28 days"  # the baseline of the verdict
TITLES = {
    GROUPS[0]: "Items",
    GROUPS[1]: "Items that nobody had bought before",
    GROUPS[2]: "Items at first purchases of users",
}
HOW_TO_READ_ITEMS: dict[str, str] = {
    "hit@12": "Share of purchases whose item was among the best 12.",
    "MAP@12": "Mean of 1 / the place of the item among the best 12; 0 if it is not among them.",
    "recall@100": "Share of purchases whose item was among the best 100.",
}
"""What each figure of items means."""


class ItemPart(NamedTuple):
    """The figures of a group of purchases."""

    title: str
    text: str
    tables: list[Table]


def item_parts(items: ItemResults | None) -> list[ItemPart]:
    """Make a part for each group of purchases: the figures of all methods, and the leads of the recommended items."""
    return (
        [] if items is None else [_part(items, group) for group in TITLES if f"{group}, {RECOMMENDED}" in items.figures]
    )


def item_verdict(items: ItemResults | None) -> list[str]:
    """Say whether the recommended items are ahead of what was popular in 28 days."""
    if items is None:
        return []
    own = items.figures[f"{GROUPS[0]}, {RECOMMENDED}"]
    found = [
        sentences.lead("The item ranking", f"what was {STRONG}", figure, Paired(*_lead(own, figure, STRONG)))
        for figure in (FIGURES[0], FIGURES[2])
    ]
    return [f"{sentence}." for sentence in found]


def item_limits(items: ItemResults | None) -> list[str]:
    """List what the figures of items cannot show."""
    if items is None:
        return []
    return [
        f"Items: {items.owned:,} purchases of items that were in the bag are no targets, because what is in the bag is left out of "
        f"every list. All {items.items:,} items could be recommended at each time, also those that the shop had no longer, or not yet."
    ]


def _part(items: ItemResults, group: str) -> ItemPart:
    own = items.figures[f"{group}, {RECOMMENDED}"]
    rows: list[list[str]] = []
    ahead: list[list[str]] = []
    for method in METHODS:
        theirs = items.figures[f"{group}, {method}"]
        cells = [_number(theirs[figure]) for figure in FIGURES]
        if method == RECOMMENDED:
            ends = (_interval(own[f"{figure} low"], own[f"{figure} high"]) for figure in FIGURES)
            cells = [" ".join(pair) for pair in zip(cells, ends, strict=True)]
        rows.append([method, *cells])
        if method != RECOMMENDED:
            leads = [_lead(own, figure, method) for figure in FIGURES]
            ahead.append(
                [method, *(f"{_number(value, sign=True)} {_interval(low, high)}" for value, low, high in leads)]
            )
    text = f"{own['purchases']:,.0f} purchases; 95 % intervals over users. The second table has the lead of the recommended items."
    return ItemPart(TITLES[group], text, [Table(["", *FIGURES], rows), Table(["lead over", *FIGURES], ahead)])


def _lead(own: dict[str, float], figure: str, method: str) -> tuple[float, float, float]:
    name = f"{figure} - {method}"
    return own[name], own[f"{name} low"], own[f"{name} high"]


def _interval(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _number(value: float, *, sign: bool = False) -> str:
    """Format as .0123, without the zero before the point: shares of items are small."""
    text = f"{value:+.4f}" if sign else f"{value:.4f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
