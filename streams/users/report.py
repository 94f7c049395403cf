"""What the API answers about a user, for people. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.table import Column, Table

from streams.serve.api.types.users import BagEntry, ExplanationAnswer, UserAnswer
from streams.serve.interface import State
from streams.users.remains import Remainder

TOP = 10  # categories


def categories(answer: UserAnswer) -> Table:
    """The best categories of a user."""
    table = Table(Column("category", overflow="fold"), Column("score", justify="right"), box=None, pad_edge=False)
    for one in answer.categories[:TOP]:
        table.add_row(one.category, f"{one.score:.2f}")
    return table


def bag(items: Sequence[BagEntry]) -> Table:
    """The items of a bag, newest first."""
    table = Table(
        Column("item", overflow="fold"),
        Column("events", overflow="fold"),
        Column("attention", justify="right"),
        box=None,
        pad_edge=False,
    )
    for item in items:
        events = _events(item.types)
        weight = f"{item.weight:.0%}" if item.weight is not None else (item.not_scored or "").replace("_", " ")
        table.add_row(item.item_id, events, weight)
    return table


def explanation(answer: ExplanationAnswer) -> tuple[str, Table, str]:
    """The score; how much each item raises it; and without which items it would fall behind."""
    what = f"category {answer.category}" if answer.category is not None else f"item {answer.item}"
    table = Table(
        Column("item", overflow="fold"), Column("raises the score by", justify="right"), box=None, pad_edge=False
    )
    for one in answer.items:
        table.add_row(one.item_id, f"{one.raises:+.3f}")
    needed = answer.smallest_set
    if needed:
        behind = "another category would be ahead" if answer.category is not None else "it would lose half of its lead"
        last = f"Without {', '.join(needed)} {behind}."
    else:
        last = "No few items carry this alone."
    return f"{what}: {answer.score:.3f}", table, last


def age(state: State) -> str:
    """How old the answer is, if it is not current."""
    if state.source == "live":
        return ""
    seconds = "" if state.age is None else f"; it held everything {state.age:.0f} s ago"
    return f"this copy of the bags is {state.source}{seconds}"


def remaining(one: Remainder) -> str:
    """A place with data of an erased user, on one line."""
    until = "without a limit that the topic sets" if one.until is None else f"until {_date(one.until)}"
    return f"{one.place}: {one.what}, {until} ({one.why})"


def _events(types: Mapping[str, datetime]) -> str:
    """The types of an item's events by their last day: `cart, view 2014-03-01, purchase 2014-03-02`."""
    days: dict[str, list[str]] = {}
    for kind, time in types.items():
        days.setdefault(f"{time:%Y-%m-%d}", []).append(kind)
    return ", ".join(f"{', '.join(kinds)} {day}" for day, kinds in sorted(days.items()))


def _date(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%MZ}"
