"""`tastestream dataset topic`: the options, and one-line errors for invalid ones."""

from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from offline_training.console import failed
from offline_training.datasets.cli import (
    Encoding,
    Levels,
    MaxLabels,
    MinItems,
    Out,
    Pictureless,
    Pictures,
    Untouched,
    prepare_and_report,
)
from offline_training.datasets.encodings import checked_encoding
from offline_training.datasets.records import DatasetError
from streams.console import USAGE, PlainConsole, fail, on_kafka, read, window

Since = Annotated[
    str | None,
    typer.Option(
        "--from", help="Only events sent at or after this time, UTC: 2026-11-01T00:00.", show_default="all events"
    ),
]
Until = Annotated[str | None, typer.Option("--until", help="Only events sent before this time.", show_default="now")]

FILE = "topic.part"  # temporary file in the folder of the data set


def topic(  # noqa: PLR0917  (options all)
    out: Out,
    since: Since = None,
    until: Until = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with the columns item and categories. Without it, accuracy cannot be measured.",
            dir_okay=False,
            show_default=False,
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
    """Convert the interactions topic of your Kafka, up to its end now. The settings name the broker.

    --from and --until select events by the time they were sent. Events of a
    user before that user's erasure are left out, even if the erasure is outside
    these times. The picture of an item is the URL in its newest event. Items
    without categories are kept: they can be replayed, but not measured.

    Exit code 69: the broker is unreachable.
    """
    from offline_training.datasets.parquet import parquet_module
    from offline_training.topic.commands import SentBetween, record
    from offline_training.topic.recording import TopicRecording

    sent = SentBetween(*window(since, until))
    if items is not None and not items.is_file():
        fail(f"--items {items}: there is no such file", USAGE)
    settings = read()
    try:
        parquet_module()  # fail before the topic is read
        recording = TopicRecording(
            out / FILE, items, now=time(), max_future=settings.max_future, earliest=settings.earliest,
            encoding=encoding and checked_encoding(encoding),
        )  # fmt: skip
    except DatasetError as error:
        raise failed(error) from None
    with recording:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=PlainConsole(stderr=True),
        ) as progress:

            def opened(records: int) -> Callable[[int], object]:
                bar = progress.add_task(settings.interactions_topic, total=records)
                return lambda count: progress.advance(bar, count)

            on_kafka(settings, record(settings, sent, recording, opened))
        prepare_and_report(
            lambda _: recording,
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
