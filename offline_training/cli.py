"""The `train` command's subcommands. Imports torch only inside them, so that the command line works without the `train` extra."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.exceptions import TastestreamError
from offline_training.embedders.cli import embedder

if TYPE_CHECKING:
    from model.bundle import Bundle
    from offline_training.embedding import Advance

app = typer.Typer(
    help="Offline training: from pictures to a model bundle (needs the extra `train`).", no_args_is_help=True
)


@app.callback()
def train() -> None:
    """Offline training: from pictures to a model bundle (needs the extra `train`)."""


app.command()(embedder)


@app.command("default-bundle")
def default_bundle(  # noqa: PLR0917  (options all)
    data: Annotated[
        Path, typer.Option(help="Folder with mobilenet/, clothing/ and grocery/.", file_okay=False, exists=True)
    ],
    catalogue: Annotated[
        Path, typer.Option(help="Folder of the demo's catalogue.json and its photos.", file_okay=False, exists=True)
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder; its files are replaced.", file_okay=False)],
    seed: Annotated[int, typer.Option(help="Of every chance in the training.", min=0)] = 0,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder for cached embeddings; a rerun is faster with it.",
            file_okay=False,
            show_default="a temporary one",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps of each network.", min=1, show_default="the recipe's")
    ] = None,
) -> None:
    """Train the bundle that ships with tastestream, in under ten minutes on two cores.

    Example: tastestream train default-bundle --data data --catalogue streams/demo/catalogue --out
    model/bundles/default --work .cache/train
    """
    console = Console(stderr=True)
    try:
        from offline_training.default_bundle import make_default_bundle  # noqa: PLC0415
        from offline_training.training import Recipe  # noqa: PLC0415
    except ImportError as error:
        console.print(
            f"training needs {error.name}, which is not installed: pip install 'tastestream[train]'",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(1) from None

    recipe = Recipe() if steps is None else Recipe(steps=steps)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:

        @contextmanager
        def step(title: str, total: float) -> "Generator[Advance]":
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)

        try:
            bundle = make_default_bundle(
                data=data,
                catalogue=catalogue,
                out=out,
                work=work or Path(gettempdir()) / "tastestream-train",
                seed=seed,
                recipe=recipe,
                step=step,
            )
        except TastestreamError as error:
            progress.stop()
            console.print(str(error), soft_wrap=True, markup=False)
            raise typer.Exit(1) from None
    Console().print(_figures_table(bundle))


def _figures_table(bundle: "Bundle") -> Table:
    """The manifest's figures of the methods, a row each."""
    table = Table(
        title=f"{bundle.name} {bundle.version}: {len(bundle.categories)} categories, embedder {bundle.embedder_version}"
    )
    columns = ("recall@1", "recall@3", "precision@3", "map", "micro_f1")
    table.add_column("users of / method", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for name, figures in bundle.manifest.metrics.items():
        if all(column in figures for column in columns):
            table.add_row(name, *(f"{figures[column]:.3f}" for column in columns))
    return table
