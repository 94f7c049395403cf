"""The parts of a report page: tables, charts, and blocks of them. Needs neither Jinja nor Matplotlib."""

import re
from typing import NamedTuple


class Table(NamedTuple):
    """A table of text cells.

    Attributes:
        header: cells of the header.
        rows: cells of each row.
        strong: first cell of the row to highlight; None for no highlight.
    """

    header: list[str]
    rows: list[list[str]]
    strong: str | None = None


class Chart(NamedTuple):
    """A chart.

    Attributes:
        name: file name without suffix.
        alt: text alternative: what the chart shows.
        svg: the chart itself.
        width: width on a page, pixels.
    """

    name: str
    alt: str
    svg: str
    width: int


class Block(NamedTuple):
    """A part of a page with its own heading.

    Attributes:
        title: the heading.
        text: how to read the charts and tables.
        charts: charts, above the tables.
        tables: tables.
        folded: whether the tables are hidden until the reader opens them.
    """

    title: str
    text: str
    charts: list[Chart]
    tables: list[Table]
    folded: bool = False


def cell(text: object) -> str:
    """Escape text for Markdown, on one line, so that it also fits in a table cell."""
    return re.sub(r"([\\`*_\[\]<|&$~])", r"\\\1", " ".join(str(text).split()))
