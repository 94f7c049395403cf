"""`tastestream dataset topic`: its options, and what is wrong with them in one line."""

from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from offline_training.console import failed
from offline_training.datasets.cli import (
    Levels,
    MaxLabels,
    MinItems,
    Out,
    Pictureless,
    Pictures,
    Untouched,
    prepare_and_report,
)
from offline_training.datasets.records import DatasetError
from streams.console import USAGE, fail, on_kafka, read, window

FILE = "topic.part"  # in the data set's folder, while it is made


def topic(  # noqa: PLR0917  (options all)
    out: Out,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="Events that were sent then or later: 2026-11-01T00:00, UTC.", show_default="all there are"
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Events that were sent before then.", show_default="all there are now")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Columns item and categories, CSV or Parquet. Without it there is nothing to be right about.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    pictures: Pictures = None,
    pictureless: Pictureless = False,
    untouched: Untouched = False,
    levels: Levels = "1-4",
    min_items: MinItems = 5,
    max_labels: MaxLabels = 1000,
) -> None:
    """The interactions topic of your own Kafka, up to where it ends now; the broker is the settings'.

    Events are kept by when they were sent. What a user did before an erasure is left out, wherever on the topic the erasure is.
    An item's picture is the address in its newest event. Items without categories are kept: they can be played, not measured.

    Exit code 69: no broker.
    """
    from offline_training.datasets.tables import parquet_module
    from offline_training.topic.commands import Window, record
    from offline_training.topic.recorded import Recorded

    span = Window(*window(since, until))
    if items is not None and not items.is_file():
        fail(f"--items {items}: there is no such file", USAGE)
    settings = read()
    try:
        parquet_module()  # what is missing is said before all is read
        recorded = Recorded(out / FILE, items, now=time(), max_future=settings.max_future)
    except DatasetError as error:
        raise failed(error) from None
    with recorded:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress:

            def opened(records: int) -> Callable[[int], object]:
                bar = progress.add_task(settings.interactions_topic, total=records)
                return lambda count: progress.advance(bar, count)

            on_kafka(settings, record(settings, span, recorded, opened))
        prepare_and_report(
            lambda _: recorded,
            settings.interactions_topic,
            out,
            levels=levels,
            min_items=min_items,
            max_labels=max_labels,
            pictures=pictures,
            pictureless=pictureless,
            untouched=untouched,
            uncategorized=True,
        )
