"""The options of `tastestream warm`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from model.exceptions import TastestreamError
from streams.console import USAGE, fail, read, stdout
from streams.exceptions import BrokerUnreachable, DeliveryError, ListError, StateError
from streams.runtime.process import CRASHED, MISCONFIGURED, UNAVAILABLE
from streams.warm.commands import failures_file, run_warm
from streams.warm.url_list import Format, open_url_list

app = typer.Typer(rich_markup_mode="rich", add_completion=False)


@app.command(epilog="Example: tastestream warm catalogue.csv --column image_url --failures failed.jsonl")
def warm(
    urls: Annotated[
        str,
        typer.Argument(
            metavar="URLS", help="File with URLs: .csv, .jsonl, .txt (each also .gz) or .parquet; - for standard input."
        ),
    ],
    *,
    column: Annotated[
        str | None,
        typer.Option(
            help="Column of the URLs. Without it, a common name such as image_url is looked for.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="csv, parquet, jsonl or txt, if the suffix of URLS does not tell.",
            metavar="FORMAT",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Maximum number of pictures started per second.", metavar="N", min=0.01, show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Read only the first N entries.", metavar="N", min=1, show_default=False)
    ] = None,
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="Fill the cache of this machine alone, without Kafka; workers elsewhere get nothing."
        ),
    ] = False,
    failures: Annotated[
        Path | None,
        typer.Option(
            help="Write failed URLs to this file (JSON lines). It is a list for another run.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fill the picture cache from a list of URLs, before the first events need these pictures.

    Uses the settings and the folder of the embed worker (DATA_DIR/embed), so stop that worker first.
    Shares what it makes with all embed workers, and first takes what they have made, unless
    SHARE_FEATURES is off or with --local.

    Skips URLs that are already cached. Run it again to go on after an interruption, or to retry failed URLs.

    Exit code 0: all pictures are cached; 1: some failed; 69: there is no broker; 130: stopped by Ctrl-C or SIGTERM.
    """
    settings = read()
    with ExitStack() as stack:
        try:
            url_list = open_url_list(urls, file_format, column)
            on_failure = stack.enter_context(failures_file(failures, urls))
        except ListError as error:
            fail(f"{error}. See: tastestream warm --help", USAGE)
        try:
            code = run_warm(
                settings, url_list, stdout(), limit=limit, rate=rate, share=not local, on_failure=on_failure
            )
        except BrokerUnreachable as error:
            fail(str(error), UNAVAILABLE)
        except TastestreamError as error:
            fail(str(error), CRASHED if isinstance(error, StateError | ListError | DeliveryError) else MISCONFIGURED)
    raise typer.Exit(code)
