"""`tastestream warm`: its options, and what is wrong with them in one line."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from model.exceptions import TastestreamError
from streams.console import USAGE, fail, read, stdout
from streams.exceptions import ListError, StateError
from streams.runtime.process import CRASHED, MISCONFIGURED
from streams.warm.commands import failures_file, run_warm
from streams.warm.lists import Format, open_list

app = typer.Typer(rich_markup_mode="rich")


@app.command(epilog="Example: tastestream warm catalogue.csv --column image_url --failures failed.jsonl")
def warm(
    urls: Annotated[
        str,
        typer.Argument(metavar="URLS", help="The list: .csv, .jsonl, .txt (also .gz), .parquet; - is standard input."),
    ],
    *,
    column: Annotated[
        str | None,
        typer.Option(help="Where the URLs are; image_url, url, image and the like are found.", show_default=False),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="What URLS is, if its name does not tell.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Pictures a second that are begun at most.", min=0.01, show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N of the list.", metavar="N", min=1, show_default=False)
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(help="File for what could not be had: JSON lines, a list for another run.", show_default=False),
    ] = None,
) -> None:
    """Fill the embedding cache from a list of URLs, before the first events ask for these pictures.

    It uses the embed worker's settings and its folder, DATA_DIR/embed, so it runs while that worker does not.

    What is in the cache is passed over: run it again, and it goes on where it stopped, and tries again what failed.

    Exit code 0: all are there; 1: some could not be had; 130: stopped by Ctrl-C or SIGTERM.
    """
    settings = read()
    with ExitStack() as stack:
        try:
            listed = open_list(urls, form, column)
            report = stack.enter_context(failures_file(failures, urls))
        except ListError as error:
            fail(f"{error}. See: tastestream warm --help", USAGE)
        try:
            code = run_warm(settings, listed, stdout(), limit=limit, rate=rate, report=report)
        except TastestreamError as error:
            fail(str(error), CRASHED if isinstance(error, StateError | ListError) else MISCONFIGURED)
    raise typer.Exit(code)
