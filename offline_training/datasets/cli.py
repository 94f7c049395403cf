"""`tastestream dataset`: converts a data set to the folder that training and replay read."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from offline_training.console import failed
from offline_training.datasets.encodings import checked_encoding
from offline_training.datasets.formats.amazon import ALL_PURCHASES, Amazon, parse_rule
from offline_training.datasets.formats.dvbpr import Dvbpr
from offline_training.datasets.formats.folders import ClassFolder
from offline_training.datasets.formats.hm import ARTICLES, FIELDS, HM, TRANSACTIONS, field_name, find, parsed_fields
from offline_training.datasets.formats.tables import Tables
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import DatasetSummary, prepare
from offline_training.datasets.records import DatasetError, DatasetSource
from offline_training.progress import Advance
from streams.console import PlainConsole
from streams.times import shown

SHOWN_LABELS = 8
NO_LABELS = "no labels: it can be replayed, but accuracy cannot be measured"

app = typer.Typer(
    add_completion=False,
    help="Convert a data set to the folder that training and replay read.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(help="Folder to write. A data set in it is replaced.", file_okay=False)]
Levels = Annotated[
    str, typer.Option(help="Levels of a category path that become labels, such as 2-4 or 3; 1 is the broadest.")
]
MinItems = Annotated[int, typer.Option(help="Minimum number of items per label.", min=1, max=1_000_000_000)]
MaxLabels = Annotated[
    int, typer.Option(help="Maximum number of labels; the most frequent are kept.", min=1, max=1_000_000)
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="Folder or .zip of pictures named by item, used instead of the pictures in the data set. A .zip stays packed.",
        show_default=False,
    ),
]
Pictureless = Annotated[
    bool,
    typer.Option("--pictureless", help="Keep items without a picture; their embeddings must come from elsewhere."),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of text files without a byte order mark, such as latin-1.", show_default="UTF-8"),
]
Untouched = Annotated[
    bool,
    typer.Option("--untouched", help="Keep items without events; training can learn from their labels."),
]


@app.command(
    epilog="Example: tastestream dataset amazon --reviews reviews.json.gz --metadata meta.json.gz --out data/fashion --levels 2-4"
)
def amazon(
    reviews: Annotated[list[Path], typer.Option(help="Reviews, or ratings as CSV. Repeatable.", dir_okay=False)],
    metadata: Annotated[list[Path], typer.Option(help="Metadata of the items. Repeatable.", dir_okay=False)],
    out: Out,
    ratings: Annotated[
        str, typer.Option(help="Event types by rating, such as 4-5=purchase,1-2=return.", show_default="all purchases")
    ] = "",
    columns: Annotated[
        str,
        typer.Option(help="Column order of ratings without a header: item,user or user,item.", show_default="detected"),
    ] = "",
    encoding: Encoding = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    levels: Levels = "2-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Convert Amazon reviews and metadata of 2014, 2018 or 2023: JSON, Python literals or CSV, plain or gzip."""

    def source(advance: Advance) -> DatasetSource:
        orders = {"": None, "item,user": True, "user,item": False}
        if columns not in orders:
            raise DatasetError(f"--columns {columns!r}: expected item,user or user,item")
        rule = parse_rule(ratings) if ratings else ALL_PURCHASES
        return Amazon(reviews, metadata, rule, orders[columns], advance, encoding and checked_encoding(encoding))

    prepare_and_report(
        source,
        "Amazon reviews",
        out,
        levels=levels,
        min_items=min_items,
        max_labels=max_labels,
        pictures=pictures,
        pictureless=pictureless,
        untouched=untouched,
        events_size=_sizes(*reviews),
        items_size=_sizes(*metadata),
    )


@app.command(epilog="Example: tastestream dataset dvbpr AmazonFashion6ImgPartitioned.npy --out data/fashion6")
def dvbpr(
    array: Annotated[Path, typer.Argument(help="The .npy file.", dir_okay=False)],
    out: Out,
    levels: Levels = "1-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Convert the array of DVBPR, including its pictures. No code in the pickle runs."""
    prepare_and_report(
        lambda _: Dvbpr(array, out / "images"),
        f"DVBPR {array.name}",
        out,
        levels=levels,
        min_items=min_items,
        max_labels=max_labels,
    )


@app.command(epilog="Example: tastestream dataset hm h-and-m-personalized-fashion-recommendations --out data/hm")
def hm(
    folder: Annotated[Path, typer.Argument(help="Folder with the files of the competition.", file_okay=False)],
    out: Out,
    transactions: Annotated[
        Path | None,
        typer.Option(
            help="Transactions, instead of those in the folder.", dir_okay=False, show_default="in the folder"
        ),
    ] = None,
    fields: Annotated[
        str, typer.Option(help="Columns of the articles that become fields of labels, such as product type,department.")
    ] = ",".join(map(field_name, FIELDS)),
    encoding: Encoding = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Convert the H&M data of the Kaggle competition, or an excerpt of it, as CSV or Parquet."""

    def source(advance: Advance) -> DatasetSource:
        found = transactions or find(folder, TRANSACTIONS)
        return HM(folder, found, advance, encoding and checked_encoding(encoding), parsed_fields(fields))

    prepare_and_report(
        source,
        "H&M",
        out,
        levels="2",
        min_items=min_items,
        max_labels=max_labels,
        pictures=pictures,
        pictureless=pictureless,
        untouched=untouched,
        events_size=_sizes(*([transactions] if transactions else (folder / name for name in TRANSACTIONS))),
        items_size=_sizes(*(folder / name for name in ARTICLES)),
    )


@app.command(epilog="Example: tastestream dataset folder photos --out data/photos")
def folder(
    classes: Annotated[Path, typer.Argument(help="The folder; each folder in it is a category.", file_okay=False)],
    out: Out,
    levels: Levels = "1-4",
    min_items: MinItems = 1,
    max_labels: MaxLabels = 1000,
) -> None:
    """Convert a folder of pictures, with a folder for each category. It has no events."""
    prepare_and_report(
        lambda _: ClassFolder(classes),
        str(classes),
        out,
        levels=levels,
        min_items=min_items,
        max_labels=max_labels,
    )


@app.command(epilog="Example: tastestream dataset tables --events events.csv --items items.csv --out data/shop")
def tables(
    items: Annotated[
        Path,
        typer.Option(
            help="CSV or Parquet with the columns item, image, categories. In text, | separates the categories of an item, "
            "and ' > ' the levels of a category: Clothes > Hats|Sale.",
            dir_okay=False,
        ),
    ],
    out: Out,
    events: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with the columns user, item, type, time.", dir_okay=False, show_default="none"
        ),
    ] = None,
    encoding: Encoding = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    levels: Levels = "1-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Convert two tables of your own: events and items."""
    prepare_and_report(
        lambda advance: Tables(events, items, items.parent, advance, encoding and checked_encoding(encoding)),
        f"tables {items.name}",
        out,
        levels=levels,
        min_items=min_items,
        max_labels=max_labels,
        pictures=pictures,
        pictureless=pictureless,
        untouched=untouched,
        events_size=_sizes(*([events] if events else [])),
        items_size=_sizes(items),
    )


def prepare_and_report(
    source: Callable[[Advance], DatasetSource],
    name: str,
    out: Path,
    *,
    levels: str,
    min_items: int,
    max_labels: int,
    pictures: Path | None = None,
    pictureless: bool = False,
    untouched: bool = False,
    uncategorized: bool = False,
    events_size: int = 0,
    items_size: int = 0,
) -> None:
    """Prepare a data set, with progress bars, and print what it holds."""
    console = PlainConsole(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        running: list[TaskID] = []

        @contextmanager
        def step(title: str) -> Generator[None]:
            total = items_size if title == "items" else events_size
            running[:] = [progress.add_task(title, total=total or None)]
            yield
            progress.update(running[0], total=1, completed=1) if not total else progress.update(
                running[0], completed=total
            )

        try:
            rule = LabelRule(*parsed_levels(levels), min_items, max_labels)
            summary = prepare(
                source(lambda count: progress.advance(running[0], count)),
                name,
                out,
                rule=rule,
                pictures=pictures,
                step=step,
                pictureless=pictureless,
                untouched=untouched,
                uncategorized=uncategorized,
            )
        except DatasetError as error:
            progress.stop()
            raise failed(error) from None
    PlainConsole().print(report(summary, out))


def report(summary: DatasetSummary, out: Path) -> Table:
    """Describe a data set, and what was left out of it."""
    table = Table("", "", title=f"{summary.source} in {out}", show_header=False)
    table.add_row("users, items, events", f"{summary.users:,}, {summary.items:,}, {summary.events:,}")
    common = sorted(summary.labels.items(), key=lambda label: -label[1])[:SHOWN_LABELS]
    shown = ", ".join(f"{label} ({count:,})" for label, count in common)
    table.add_row("labels", f"{len(summary.labels):,}: {shown}" if shown else NO_LABELS)
    if summary.of_every_item:
        named = ", ".join(summary.of_every_item[:SHOWN_LABELS])
        table.add_row("left out: label of every item", f"{len(summary.of_every_item):,}: {named}")
    if summary.untouched:
        table.add_row(
            "left out: item without event", f"{summary.untouched:,}; --untouched keeps them, to learn from their labels"
        )
    for fact, count in summary.noted.items():
        table.add_row(f"kept: {fact.replace('_', ' ')}", f"{count:,}, the first: {summary.examples[fact]}")
    for reason, count in summary.dropped.items():
        table.add_row(f"left out: {reason.replace('_', ' ')}", f"{count:,}, the first: {summary.examples[reason]}")
    return table


def parsed_levels(text: str) -> tuple[int, int]:
    """First and last level of the option --levels. Raises DatasetError when it is none."""
    found = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise DatasetError(f"--levels {shown(text)}: expected levels such as 2-4 or 3")
    return first, last


def _sizes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
