"""What the commands of offline training share: options, progress bars, tables of figures, and errors in one line."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from model.exceptions import TastestreamError
from offline_training.progress import Advance, Step
from streams.console import fail_without_extra, print_error

FAILED = 1  # exit code of a command that could not do its work

Dataset = Annotated[Path, typer.Argument(help="Folder that `tastestream dataset` wrote.", file_okay=False)]
Embeddings = Annotated[
    Path, typer.Option(help="Embeddings that `tastestream train embed` wrote (.npz).", dir_okay=False)
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="profile, unseen, next or purchases. Repeat for several tasks.", show_default="all"),
]
Apart = Annotated[
    Path | None,
    typer.Option(
        help="Prepared data set whose users are not trained on, and measured apart, in the task purchases.",
        file_okay=False,
        show_default="none",
    ),
]
Items = Annotated[
    bool,
    typer.Option(
        "--items",
        help="Recommend items, too, and measure them before each purchase; in the task purchases.",
        show_default=False,
    ),
]
Paper = Annotated[
    bool,
    typer.Option("--paper", help="Show what the public code of the paper calls precision, as rounded precision."),
]
Variants = Annotated[
    int,
    typer.Option(
        help="Characters at the end of an item id that only distinguish variants of one product (H&M: 3, the colour).",
        min=0,
        max=1000,
    ),
]
MaxBag = Annotated[
    int | None,
    typer.Option(
        help="Maximum number of items in a bag; the newest are kept.",
        min=1,
        max=100_000,
        show_default="8; 16 for next, 64 for purchases",
    ),
]
Threads = Annotated[int, typer.Option(help="Number of CPU threads.", min=1, max=1024)]
Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=2**32 - 1)]
Work = Annotated[
    Path | None,
    typer.Option(
        help="Cache folder. A rerun with the same folder is faster.",
        file_okay=False,
        show_default="a temporary folder",
    ),
]


def failed(message: object) -> typer.Exit:
    """Print one line to standard error, and return the exception that ends the command."""
    print_error(str(message))
    return typer.Exit(FAILED)


@contextmanager
def extra(name: str = "train") -> Generator[None]:
    """Turn a missing module into one line that says which extra installs it.

    Args:
        name: both the command and the extra that it needs.

    Raises:
        typer.Exit: code 2, when an import in the block finds no such module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        fail_without_extra(name, (error.name or "a module").partition(".")[0], name)


@contextmanager
def interrupted_by_sigterm() -> Generator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that finished work is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(console: Console) -> Generator[Step]:
    """Show progress bars, and yield the function that opens one.

    Raises:
        typer.Exit: code 1 after one line below the bars, when the block raises a `TastestreamError`.
    """
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )

    @contextmanager
    def step(title: str, total: float) -> Generator[Advance]:
        task = bars.add_task(title, total=total)
        yield lambda count: bars.advance(task, count)

    try:
        with bars:
            yield step
    except TastestreamError as error:
        raise failed(error) from None
