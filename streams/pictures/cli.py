"""The subcommands of `tastestream pictures` and their options."""

from time import time
from typing import Annotated

import typer

from streams.console import USAGE, fail, on_kafka, read, seconds, stdout

app = typer.Typer(help="Forget what the workers know of pictures.", no_args_is_help=True)


@app.callback()
def common() -> None:
    """Forget what the workers know of pictures."""


@app.command("forget", epilog="Example: tastestream pictures forget https://shop.example/hat.jpg --dry-run")
def forget(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL...", help="Pictures, by `image_url` as it is in the events.", show_default=False),
    ] = None,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            help="All features that were made longer ago than this: 30m, 12h, 90d.", metavar="AGE", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be forgotten, and forget nothing.")
    ] = False,
) -> None:
    """Forget the features of pictures, for all bundles and in all embed workers.

    Writes a tombstone to the features topic for each record that it has of
    these pictures. Each running embed worker then drops them from memory and
    disk, and fetches a picture again when an event needs it. Embeddings that
    are in the bags of users stay.

    Exit code 0: all is forgotten; 1: the topic has nothing of one of the URLs.
    """
    from streams.pictures.commands import check_shared  # noqa: PLC0415
    from streams.pictures.commands import forget as work  # noqa: PLC0415

    if not urls and older_than is None:
        fail("pictures forget needs a URL or --older-than. See: tastestream pictures forget --help", USAGE)
    if urls and older_than is not None:
        fail("pictures forget takes URLs or --older-than, not both. See: tastestream pictures forget --help", USAGE)
    before = None if older_than is None else int((time() - seconds("--older-than", older_than)) * 1000)
    settings = read()

    async def checked() -> bool:
        check_shared(settings)
        return await work(settings, urls or [], before, stdout(), dry_run=dry_run)

    if not on_kafka(settings, checked()):
        raise typer.Exit(1)
