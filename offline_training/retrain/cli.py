"""`tastestream retrain`: the options, and one-line errors for invalid ones."""

import logging
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from time import time
from typing import Annotated

import typer

from model.exceptions import TastestreamError
from offline_training.console import Seed, Threads, interrupted_by_sigterm
from offline_training.topic.cli import Since, Until
from streams.console import USAGE, fail, fail_without_extra, read, stdout, window
from streams.exceptions import BrokerUnreachable
from streams.runtime.process import CRASHED, UNAVAILABLE
from streams.times import shown

app = typer.Typer(add_completion=False)

DAY = 86_400_000  # milliseconds
TYPES = ("view", "cart", "purchase")


class Missing(StrEnum):
    """What is done about pictures without features."""

    fetch = "fetch"
    skip = "skip"


class Task(StrEnum):
    """What is trained for."""

    next = "next"
    purchases = "purchases"


class Parts(StrEnum):
    """Which networks are trained."""

    items = "items"
    aggregator = "aggregator"


@app.command(
    epilog="Example: tastestream retrain --items items.csv --against bundles/current --out bundles/next --days 90"
)
def retrain(  # noqa: PLR0917  (options all)
    items: Annotated[
        Path,
        typer.Option(help="CSV or Parquet with the columns item and categories, and perhaps image.", dir_okay=False),
    ],
    against: Annotated[Path, typer.Option(help="Folder of the current bundle.", file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the next bundle. It must not exist.", file_okay=False)],
    since: Since = None,
    until: Until = None,
    days: Annotated[
        float | None,
        typer.Option(
            help="Only events sent in the last N days. Instead of --from.",
            metavar="N",
            min=0.0,
            max=100_000,
            show_default=False,
        ),
    ] = None,
    hold_out: Annotated[
        float,
        typer.Option(help="Number of days at the end that are not learnt from, but measured.", min=0.01, max=10_000),
    ] = 7,
    targets: Annotated[str, typer.Option(help="Event types to measure at, separated by commas.")] = "purchase",
    min_users: Annotated[int, typer.Option(help="Minimum number of users to measure.", min=2, max=1_000_000_000)] = 30,
    margin: Annotated[
        float,
        typer.Option(
            help="The next bundle passes if the 95 % intervals of its differences begin above minus this. With 0 it has to be better.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.02,
    missing: Annotated[
        Missing, typer.Option(help="Fetch pictures whose features are nowhere, or skip these pictures.")
    ] = Missing.fetch,
    train: Annotated[
        Parts,
        typer.Option(
            help="Train the item network and the aggregator, or only the aggregator, so that stored embeddings stay valid."
        ),
    ] = Parts.items,
    task: Annotated[
        Task | None,
        typer.Option(
            help="next: the categories of a user's next items; purchases: those of the next purchase, with the trend.",
            show_default="as the current bundle",
        ),
    ] = None,
    aggregator: Annotated[
        str | None,
        typer.Option(help="Aggregator to train for the task next.", show_default="the best one"),
    ] = None,
    adapter: Annotated[
        bool,
        typer.Option(
            "--adapter/--no-adapter",
            help="Fit an adapter for embeddings of the current bundle, for pictures that are gone.",
        ),
    ] = True,
    new_categories: Annotated[
        bool,
        typer.Option(
            "--new-categories", help="Take the categories of --items. Without it, those of the current bundle stay."
        ),
    ] = False,
    levels: Annotated[
        str, typer.Option(help="With --new-categories: levels of a category path that become categories.")
    ] = "1-4",
    min_items: Annotated[
        int, typer.Option(help="With --new-categories: minimum number of items per category.", min=1, max=1_000_000_000)
    ] = 5,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of --items without a byte order mark, such as latin-1.", show_default="UTF-8"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the next bundle.", show_default="that of the current one")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the next bundle.", show_default="the time now")
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps features of pictures from one run to the next.",
            file_okay=False,
            show_default=".retrain, beside --out",
        ),
    ] = None,
) -> None:
    """Train the next bundle on the interactions topic, and compare it with the current one.

    The last days are held out. Both bundles are replayed over them, without
    the workers. --out gets the bundle, comparison.json and a report, whether
    the bundle passes or not.

    Features come from the topic picture-features. Nothing that is there is
    fetched or computed again.

    Exit codes: 0: the next bundle is not worse; 3: it may be worse; 1: an
    error; 69: the broker is unreachable.
    """
    for module in ("torch", "pyarrow"):
        if find_spec(module) is None:
            fail_without_extra("retrain", module, "train")
    import torch

    from offline_training.aggregators import AGGREGATORS
    from offline_training.datasets.cli import parsed_levels
    from offline_training.datasets.encodings import checked_encoding
    from offline_training.datasets.labels import LabelRule
    from offline_training.retrain.run import RetrainOptions, run_retrain
    from offline_training.tasks.split import task_named
    from offline_training.topic.commands import SentBetween
    from streams.runtime.process import configure_logging

    first, end = window(since, until)
    if days is not None:
        if since is not None:
            fail("--days and --from exclude each other: give one of them", USAGE)
        first = int((time() - days * 86400) * 1000)
    kinds = frozenset(part.strip() for part in targets.split(",") if part.strip())
    if not kinds or not kinds <= set(TYPES):
        fail(f"--targets {shown(targets)}: expected event types of {', '.join(TYPES)}, separated by commas", USAGE)
    if aggregator is not None and aggregator not in AGGREGATORS:
        fail(f"--aggregator {shown(aggregator)}: expected {', '.join(AGGREGATORS)}", USAGE)
    if not items.is_file():
        fail(f"--items {items}: there is no such file", USAGE)
    torch.set_num_threads(threads)
    settings = read()
    configure_logging(settings)
    for exporter in ("onnx_ir", "onnxscript", "torch"):  # they log each step of an export
        logging.getLogger(exporter).setLevel(logging.WARNING)
    try:
        options = RetrainOptions(
            items=items,
            against=against,
            out=out,
            work=work or out.parent / ".retrain",
            sent=SentBetween(first, end),
            hold_out=hold_out,
            targets=kinds,
            min_users=min_users,
            margin=margin,
            fetch=missing is Missing.fetch,
            task=None if task is None else task_named(task.value),
            keep_items=train is Parts.aggregator,
            adapts=adapter,
            aggregator=aggregator,
            categories=LabelRule(*parsed_levels(levels), min_items) if new_categories else None,
            encoding=encoding and checked_encoding(encoding),
            name=name,
            version=version,
            seed=seed,
            command=f"tastestream retrain --items {items.name} --against {against.name} --train {train} --seed {seed}",
        )
        with interrupted_by_sigterm():
            code = run_retrain(settings, options, stdout(), time())
    except BrokerUnreachable as error:
        fail(str(error), UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error), CRASHED)
    except OSError as error:
        fail(f"{error.filename or out.parent}: {error.strerror or error}: make room, and run it again", CRASHED)
    raise typer.Exit(code)
