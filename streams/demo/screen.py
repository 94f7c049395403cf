"""What the demo shows: a line for each event, and below it a live table of the shoppers. Fits a terminal of 80 x 24."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.console import as_markup
from streams.dead_letter import Letter, subject
from streams.demo.catalogue import Product, Shopper, Step
from streams.text import visible

TOP = 3  # categories, and items by attention, in the table
BAG_LINES = 4  # lines of a bag; three shoppers then fit into 24 lines
VISIBLE_CHANGE = 0.02  # of a score; smaller changes get no arrow
VERBS = {"view": "views", "cart": "adds to cart", "purchase": "buys", "return": "returns"}
MARKS = {"view": "[dim]o[/dim]", "cart": "[yellow]+[/yellow]", "purchase": "[green]$[/green]", "return": "[red]-[/red]"}
BAR = 5  # characters of a full bar
WIDE = 100  # columns from which on bag and attention have a column each; in fewer, their words would be cut


@dataclass
class _Row:
    bag: dict[str, str] = field(default_factory=dict[str, str])  # product name by item id, oldest first
    before: dict[str, float] = field(default_factory=dict[str, float])  # score by category, before the last event
    categories: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    attention: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cold_start: bool = False


class Screen:
    """Keeps the last recommendation of each shopper, and draws them. A context manager."""

    def __init__(self, console: Console, shoppers: list[Shopper], products: Mapping[str, Product]) -> None:
        self._console = console
        self._names = {shopper.user_id: shopper.name for shopper in shoppers}
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

    def show_event(self, shopper: Shopper, step: Step, recommendation: Mapping[str, Any], milliseconds: float) -> None:
        """Show an event of the story and the recommendation that it caused."""
        product = self._products[step.item_id]
        row = self._rows[shopper.user_id]
        row.bag.pop(step.item_id, None)
        if step.type != "return":
            row.bag[step.item_id] = product.name
        row.before = {one["category"]: one["score"] for one in row.categories}
        row.categories = recommendation["categories"]
        row.attention = recommendation["attention"]
        row.cold_start = recommendation["cold_start"]
        best = row.categories[0]
        category = f" [dim]({product.category})[/dim]" if self._console.width >= WIDE else ""
        self._console.print(
            f"{MARKS[step.type]} [bold]{shopper.name}[/bold] {VERBS[step.type]} {product.name}{category}"
            f" → {as_markup(best['category'])} [cyan]{best['score']:.2f}[/cyan] [dim]{milliseconds:.0f} ms[/dim]",
            highlight=False,
        )
        self._live.update(self._table(), refresh=self._console.is_terminal)

    def show_other(self, recommendation: Mapping[str, Any]) -> None:
        """Show a recommendation for a user who is not in the story."""
        best = ", ".join(
            f"{as_markup(one['category'])} {one['score']:.2f}" for one in recommendation["categories"][:TOP]
        )
        self._console.print(
            f"[bold]{as_markup(recommendation['user_id'])}[/bold] → {best} "
            f"[dim](event {as_markup(recommendation['event_id'])})[/dim]"
        )

    def show_letter(self, letter: Letter) -> None:
        """Show a dead letter."""
        who = " ".join(part for part in subject(letter) if part) or "an event"
        self._console.print(
            f"[bold]{as_markup(who)}[/bold] → [red]dead letter[/red] {as_markup(letter.reason)}: {as_markup(letter.error)}",
            highlight=False,
        )

    def show_erasure(self, user_id: str) -> None:
        """Show that a user was erased."""
        self._console.print(f"[bold]{as_markup(user_id)}[/bold] is erased", highlight=False)

    def _table(self) -> Table:
        return self._wide_table() if self._console.width >= WIDE else self._narrow_table()

    def _narrow_table(self) -> Table:
        """Bag and attention in one column, so that no word is cut at 80 columns."""
        table = Table(expand=True, show_lines=True, title="What each shopper is likely to want next")
        table.add_column("bag, with attention", ratio=4, no_wrap=True)
        table.add_column("score before → after", ratio=5, no_wrap=True)
        for user_id, row in self._rows.items():
            weights = {one["item_id"]: f"{one['weight']:.2f}" for one in row.attention}
            items = [f"{weights.get(item_id, '    ')} {name}" for item_id, name in row.bag.items()]
            table.add_row(
                Group(f"[bold]{self._names[user_id]}[/bold]", *_bag_lines(items)),
                Group(
                    *(_category(one, row.before) for one in row.categories[:TOP]),
                    *(["[dim]cold start[/dim]"] if row.cold_start else []),
                ),
            )
        return table

    def _wide_table(self) -> Table:
        table = Table(expand=True, show_lines=True, title="What each shopper is likely to want next")
        table.add_column("shopper and bag", ratio=5, no_wrap=True)
        table.add_column("score before → after", ratio=7, no_wrap=True)
        table.add_column("attention to items", ratio=6, no_wrap=True)
        for user_id, row in self._rows.items():
            table.add_row(
                Group(f"[bold]{self._names[user_id]}[/bold]", *_bag_lines(list(row.bag.values()))),
                Group(
                    *(_category(one, row.before) for one in row.categories[:TOP]),
                    *(["[dim]cold start[/dim]"] if row.cold_start else []),
                ),
                Group(*(self._item(one) for one in row.attention[:TOP])),
            )
        return table

    def _item(self, item: Mapping[str, Any]) -> Text:
        product = self._products.get(item["item_id"])
        return Text.assemble(
            *_bar(item["weight"], "magenta"),
            f" {item['weight']:.2f} ",
            product.name if product else visible(item["item_id"]),
        )


def _bag_lines(names: list[str]) -> list[Text]:
    """The newest items first, and how many more there are."""
    newest = names[::-1]
    if len(newest) > BAG_LINES:
        newest = [*newest[: BAG_LINES - 1], f"and {len(newest) - BAG_LINES + 1} more"]
    return [Text(name, style="dim") for name in newest or ["(empty)"]]


def _category(category: Mapping[str, Any], before: Mapping[str, float]) -> Text:
    """A bar, the score before and after the last event, and an arrow if the score changed visibly."""
    name, score = category["category"], category["score"]
    earlier = before.get(name)
    change = 0.0 if earlier is None else score - earlier
    mark = ("▲", "green") if change >= VISIBLE_CHANGE else ("▼", "red") if change <= -VISIBLE_CHANGE else (" ", "")
    scores = f" {'     ' if earlier is None else f'{earlier:.2f}→'}{score:.2f}"
    return Text.assemble(*_bar(score, "cyan"), scores, mark, f" {visible(name)}")


def _bar(share: float, colour: str) -> tuple[tuple[str, str], tuple[str, str]]:
    filled = round(share * BAR)
    return ("█" * filled, colour), ("░" * (BAR - filled), "dim")
