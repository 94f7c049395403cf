"""What a page is made of, whatever it tells: tables, charts, blocks of them. Needs neither Jinja nor Matplotlib."""

import re
from typing import NamedTuple


class Table(NamedTuple):
    """strong: the first cell of the row that stands out."""

    header: list[str]
    rows: list[list[str]]
    strong: str | None = None


class Chart(NamedTuple):
    """alt: what it shows, for those who do not see it. width: pixels on a page."""

    name: str
    alt: str
    svg: str
    width: int


class Block(NamedTuple):
    """A heading, how to read what follows, and that. folded: the tables show when somebody asks for them."""

    title: str
    text: str
    charts: list[Chart]
    tables: list[Table]
    folded: bool = False


def cell(text: object) -> str:
    """Text for Markdown, in a table's cell too."""
    return re.sub(r"([\\`*_\[\]<|&$~])", r"\\\1", " ".join(str(text).split()))
