"""What the demo shows: a line for each event, and below it a live table of the three shoppers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.demo.catalogue import Product, Shopper, Step

TOP = 3  # categories shown
VERBS = {"view": "looks at", "cart": "puts into the cart", "purchase": "buys", "return": "returns"}
MARKS = {"view": "[dim]o[/dim]", "cart": "[yellow]+[/yellow]", "purchase": "[green]$[/green]", "return": "[red]-[/red]"}
BAR = 5  # characters of a full bar


@dataclass
class _Row:
    last: str = "is on the way"
    bag: dict[str, str] = field(default_factory=dict[str, str])  # product name by item id
    before: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    after: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attention: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cold_start: bool = False


class Screen:
    """Keeps what is known of each shopper, and draws it. A context manager."""

    def __init__(self, console: Console, shoppers: list[Shopper], products: Mapping[str, Product]) -> None:
        self._console = console
        self._shoppers = {shopper.user_id: shopper for shopper in shoppers}
        self._products = products
        self._rows = {shopper.user_id: _Row() for shopper in shoppers}
        self._live = Live(self._table(), console=console, auto_refresh=False)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._console.print(self._table())

    def event(self, shopper: Shopper, step: Step, recommendation: Mapping[str, Any], milliseconds: float) -> None:
        """Show what a step did."""
        product = self._products[step.item_id]
        row = self._rows[shopper.user_id]
        row.last = f"{VERBS[step.type]} {product.name} [dim]({product.category})[/dim]"
        if step.type == "return":
            row.bag.pop(step.item_id, None)
        else:
            row.bag[step.item_id] = product.name
        row.before, row.after = row.after, recommendation["categories"]
        row.attention = recommendation["attention"]
        row.cold_start = recommendation["cold_start"]
        best = row.after[0]
        self._console.print(
            f"{MARKS[step.type]} [bold]{shopper.name}[/bold] {VERBS[step.type]} {product.name} [dim]({product.category})[/dim]"
            f" → {best['category']} [cyan]{best['score']:.2f}[/cyan] [dim]{milliseconds:.0f} ms[/dim]",
            highlight=False,
        )
        self._live.update(self._table(), refresh=self._console.is_terminal)

    def outside(self, recommendation: Mapping[str, Any]) -> None:
        """Show a recommendation for somebody who is not in the story."""
        best = ", ".join(f"{one['category']} {one['score']:.2f}" for one in recommendation["categories"][:TOP])
        self._console.print(
            f"[bold]{recommendation['user_id']}[/bold]  →  {best}  [dim]event {recommendation['event_id']}[/dim]"
        )

    def _table(self) -> Table:
        table = Table(expand=True, show_lines=True, title="What each shopper is likely to want next")
        table.add_column("shopper and bag", ratio=6)
        for heading in ("before", "after", "which items spoke"):
            table.add_column(heading, ratio=5, no_wrap=True, overflow="ellipsis")
        for user_id, row in self._rows.items():
            shopper = self._shoppers[user_id]
            earlier = {one["category"]: one["score"] for one in row.before}
            bag = ", ".join(row.bag.values()) or "empty"
            table.add_row(
                Group(f"[bold]{shopper.name}[/bold] {row.last}", f"[dim]bag: {bag}[/dim]"),
                Group(*(_category(one, None) for one in row.before[:TOP])),
                Group(
                    *(_category(one, earlier) for one in row.after[:TOP]),
                    *(["[dim]cold start[/dim]"] if row.cold_start else []),
                ),
                Group(*(self._item(one) for one in row.attention[:TOP])),
            )
        return table

    def _item(self, item: Mapping[str, Any]) -> Text:
        product = self._products.get(item["item_id"])
        return _bar(item["weight"], product.name if product else item["item_id"], "magenta")


def _category(category: Mapping[str, Any], earlier: Mapping[str, float] | None) -> Text:
    """A bar, and an arrow if the score moved visibly against the `earlier` ones."""
    change = category["score"] - (earlier or {}).get(category["category"], 0.0)
    moved = earlier is not None and abs(change) >= 0.02
    mark = ("▲", "green") if change > 0 else ("▼", "red")
    return _bar(category["score"], category["category"], "cyan", mark if moved else (" ", ""))


def _bar(share: float, name: str, colour: str, mark: tuple[str, str] = ("", "")) -> Text:
    filled = round(share * BAR)
    return Text.assemble(("█" * filled, colour), ("░" * (BAR - filled), "dim"), f" {share:.2f}", mark, f" {name}")
