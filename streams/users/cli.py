"""The subcommands of `tastestream user` and their options."""

import sys
from typing import Annotated

import typer

from streams.console import USAGE, fail, on_kafka, read, stdout

app = typer.Typer(help="Show, explain, export and erase what is held on a user.", no_args_is_help=True)

UserId = Annotated[str, typer.Argument(metavar="ID", help="The user's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer of the HTTP API.")]


@app.callback()
def common() -> None:
    """Show, explain, export and erase what is held on a user.

    show, why and export ask the HTTP API of a serve worker: the one on this
    machine, or API_URL, with API_TOKEN if it asks for a token. erase needs Kafka.
    """


@app.command("show", epilog="Example: tastestream user show ada")
def show_user(user_id: UserId, *, as_json: AsJson = False) -> None:
    """Show the categories that a user is likely to want, and the bag that says so."""
    from streams.users.commands import show

    settings = read()
    on_kafka(settings, show(settings, user_id, stdout(), as_json=as_json))


@app.command("why", epilog="Example: tastestream user why ada --category camera")
def why_user(
    user_id: UserId,
    *,
    category: Annotated[
        str | None, typer.Option(help="The category to explain. Default: the best one.", show_default=False)
    ] = None,
    item: Annotated[str | None, typer.Option(help="The item to explain.", metavar="ID", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a category or an item is recommended to a user: what each item of the bag does for it."""
    from streams.users.commands import why

    if category is not None and item is not None:
        fail("user why takes either --category or --item. See: tastestream user why --help", USAGE)
    settings = read()
    on_kafka(settings, why(settings, user_id, stdout(), category=category, item=item, as_json=as_json))


@app.command("export", epilog="Example: tastestream user export ada > ada.json")
def export_user(user_id: UserId) -> None:
    """Print everything that is held on a user beside the topics, as JSON."""
    from streams.users.commands import export

    settings = read()
    on_kafka(settings, export(settings, user_id))


@app.command("erase", epilog="Example: tastestream user erase ada --yes")
def erase_user(
    user_id: UserId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the worker.", metavar="SECONDS", min=0.1)] = 60.0,
) -> None:
    """Erase a user, wait until it is done, and list where data of the user still is, and until when.

    An erasure covers every event of the user up to now, also those that arrive
    late. It cannot be taken back.
    """
    from streams.users.commands import erase

    if not yes:
        if not sys.stdin.isatty():
            fail("user erase asks before it erases; without a terminal it needs --yes", USAGE)
        typer.confirm(f"Erase everything that is held on {user_id!r}?", abort=True)
    settings = read()
    on_kafka(settings, erase(settings, user_id, stdout(), timeout=timeout))
