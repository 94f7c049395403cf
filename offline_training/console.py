"""What the commands of offline training have in common: options, progress bars, and errors in one line."""

import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.exceptions import TastestreamError
from offline_training.progress import Advance, Step

FAILED = 1

Dataset = Annotated[Path, typer.Argument(help="What `tastestream dataset` wrote.", file_okay=False)]
Embeddings = Annotated[Path, typer.Option(help="What `tastestream train embed` wrote.", dir_okay=False)]
Tasks = Annotated[
    list[str] | None, typer.Option(help="profile, unseen or next; may be given several times.", show_default="all")
]
Variants = Annotated[
    int, typer.Option(help="Trailing characters of an item's name that tell variants of one product apart.", min=0)
]
MaxBag = Annotated[int | None, typer.Option(help="Items of a bag at most.", min=1, show_default="8, and 16 for next")]
Threads = Annotated[int, typer.Option(help="Threads of the arithmetic.", min=1)]
Work = Annotated[
    Path | None,
    typer.Option(
        help="Folder for what is computed once; a rerun is faster with it.",
        file_okay=False,
        show_default="a temporary one",
    ),
]


def failed(message: object) -> typer.Exit:
    """Print one line to standard error; what is to be raised then."""
    Console(stderr=True).print(str(message), soft_wrap=True, markup=False, highlight=False)
    return typer.Exit(FAILED)


@contextmanager
def extra() -> Generator[None]:
    """Around the imports of what the extra `train` installs."""
    try:
        yield
    except ImportError as error:
        raise failed(f"training needs {error.name}, which is not installed: pip install 'tastestream[train]'") from None


@contextmanager
def interrupted_by_sigterm() -> Generator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what is done is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(console: Console) -> Generator[Step]:
    """Progress bars, and what opens one. An error of ours ends the command, in one line below them."""
    bars = Progress(
        TextColumn("{task.description}"),
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


def figures_table(title: str, measured: Mapping[str, Mapping[str, float]]) -> Table:
    """A column for each group of figures, a row for each figure."""
    table = Table("", *measured, title=title)
    for figure in dict.fromkeys(name for found in measured.values() for name in found):
        table.add_row(figure, *(f"{found[figure]:,.4g}" if figure in found else "" for found in measured.values()))
    return table
