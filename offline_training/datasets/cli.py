"""`tastestream dataset`: data sets as people have them, to a folder that training and replay read."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from offline_training.console import failed
from offline_training.datasets.amazon import ALL_PURCHASES, Amazon, parse_rule
from offline_training.datasets.dvbpr import Dvbpr
from offline_training.datasets.folders import ClassFolder
from offline_training.datasets.hm import ARTICLES, HM, TRANSACTIONS, find
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.picture_files import pictures_by_item
from offline_training.datasets.prepare import DatasetSummary, prepare
from offline_training.datasets.records import DatasetError, Source
from offline_training.datasets.tables import Tables
from offline_training.progress import Advance

SHOWN_LABELS = 8
NO_LABELS = "it can be played, but there is nothing to be right about"

app = typer.Typer(
    help="Data sets as people have them, to a folder that training and replay read.", no_args_is_help=True
)

Out = Annotated[Path, typer.Option(help="The folder to write; a data set that is in it is replaced.", file_okay=False)]
Levels = Annotated[
    str, typer.Option(help="Levels of a category path that become labels: 2-4, or 3; 1 is the broadest.")
]
MinItems = Annotated[int, typer.Option(help="Items that a label needs.", min=1)]
MaxLabels = Annotated[int, typer.Option(help="Labels at most, the most frequent.", min=1)]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="Folder or .zip of pictures, named by item, to use instead of those that the data set names; a .zip stays packed.",
        show_default=False,
    ),
]
Pictureless = Annotated[
    bool,
    typer.Option("--pictureless", help="Keep items without a picture, whose embeddings come from elsewhere."),
]
Untouched = Annotated[
    bool,
    typer.Option("--untouched", help="Keep items that nobody touched: their labels teach what pictures look like."),
]


@app.command(
    epilog="Example: tastestream dataset amazon --reviews reviews.json.gz --metadata meta.json.gz --out data/fashion --levels 2-4"
)
def amazon(
    reviews: Annotated[
        list[Path], typer.Option(help="Reviews, or ratings as CSV; may be given several times.", dir_okay=False)
    ],
    metadata: Annotated[list[Path], typer.Option(help="Metadata; may be given several times.", dir_okay=False)],
    out: Out,
    ratings: Annotated[
        str, typer.Option(help="What ratings stand for, such as 4-5=purchase,1-2=return.", show_default="all purchases")
    ] = "",
    columns: Annotated[
        str, typer.Option(help="Of ratings without a header: item,user or user,item.", show_default="found out")
    ] = "",
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    levels: Levels = "2-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Amazon reviews of 2014, 2018 and 2023: JSON lines, arrays, Python literals, ratings as CSV, plain or gzip."""

    def source(advance: Advance) -> Source:
        orders = {"": None, "item,user": True, "user,item": False}
        if columns not in orders:
            raise DatasetError(f"--columns {columns!r}: expected item,user or user,item")
        rule = parse_rule(ratings) if ratings else ALL_PURCHASES
        return Amazon(reviews, metadata, rule, orders[columns], advance)

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
    array: Annotated[Path, typer.Argument(help="The array.", dir_okay=False)],
    out: Out,
    levels: Levels = "1-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """The array of DVBPR, pictures included; it is read without running what a pickle may hold."""
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
    folder: Annotated[Path, typer.Argument(help="Folder of the competition's files.", file_okay=False)],
    out: Out,
    transactions: Annotated[
        Path | None, typer.Option(help="Other transactions.", dir_okay=False, show_default="those of the folder")
    ] = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """H&M: transactions, articles and pictures of the Kaggle competition, or an excerpt as CSV or Parquet."""

    def source(advance: Advance) -> Source:
        return HM(folder, transactions or find(folder, TRANSACTIONS), advance)

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
    classes: Annotated[Path, typer.Argument(help="The folder: a folder in it is a category.", file_okay=False)],
    out: Out,
    levels: Levels = "1-4",
    min_items: MinItems = 1,
    max_labels: MaxLabels = 1000,
) -> None:
    """A folder of classes with pictures in them; there are no events."""
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
    items: Annotated[Path, typer.Option(help="Columns item, image, categories; CSV or Parquet.", dir_okay=False)],
    out: Out,
    events: Annotated[
        Path | None,
        typer.Option(help="Columns user, item, type, time; CSV or Parquet.", dir_okay=False, show_default="none"),
    ] = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    levels: Levels = "1-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """Two tables of your own: who did what with which item, and what the items are."""
    prepare_and_report(
        lambda advance: Tables(events, items, items.parent, advance),
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
    source: Callable[[Advance], Source],
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
    """Prepare, show the progress and what came of it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=console
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
            rule = LabelRule(*_levels(levels), min_items, max_labels)
            summary = prepare(
                source(lambda count: progress.advance(running[0], count)),
                name,
                out,
                rule=rule,
                pictures=None if pictures is None else pictures_by_item(pictures),
                step=step,
                pictureless=pictureless,
                untouched=untouched,
                uncategorized=uncategorized,
            )
        except DatasetError as error:
            progress.stop()
            raise failed(error) from None
    Console().print(report(summary, out))


def report(summary: DatasetSummary, out: Path) -> Table:
    """What a data set is, and what was left out."""
    table = Table("", "", title=f"{summary.source} in {out}", show_header=False)
    table.add_row("users, items, events", f"{summary.users:,}, {summary.items:,}, {summary.events:,}")
    common = sorted(summary.labels.items(), key=lambda label: -label[1])[:SHOWN_LABELS]
    shown = ", ".join(f"{label} ({count:,})" for label, count in common)
    table.add_row("labels", f"{len(summary.labels):,}: {shown or NO_LABELS}")
    for fact, count in summary.noted.items():
        table.add_row(f"kept: {fact.replace('_', ' ')}", f"{count:,}, the first: {summary.examples[fact]}")
    for reason, count in summary.dropped.items():
        table.add_row(f"left out: {reason.replace('_', ' ')}", f"{count:,}, the first: {summary.examples[reason]}")
    return table


def _levels(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or not 1 <= int(first) <= int(last or first):
        raise DatasetError(f"--levels {text!r}: expected 2-4, or 3")
    return int(first), int(last or first)


def _sizes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
