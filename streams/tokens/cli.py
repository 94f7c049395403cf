"""The subcommands of `tastestream token` and their options."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Column, Table

from streams.console import USAGE, fail, read, seconds, show
from streams.exceptions import StartupError
from streams.runtime.process import MISCONFIGURED
from streams.serve.api.tokens import Scope, TokenError, create_token, read_tokens, revoke_token

app = typer.Typer(help="Create, list and revoke tokens of the HTTP API.", no_args_is_help=True)


class ScopeChoice(StrEnum):
    read = "read"
    write = "write"
    names = "names"
    admin = "admin"


Name = Annotated[str, typer.Option(help="Name of the token: who uses it.", metavar="NAME")]


@app.callback()
def common() -> None:
    """Create, list and revoke tokens of the HTTP API.

    The file of SERVE_TOKENS has their hashes. Running workers notice a change
    within a second.
    """


@app.command("create", epilog="Example: tastestream token create --scope read --name shop")
def create(
    scope: Annotated[
        list[ScopeChoice],
        typer.Option(
            help="read: ask; write: send events; names: see who is active; admin: all of that, and erase and export users. "
            "Repeat it for several."
        ),
    ],
    name: Name,
    expires: Annotated[
        str | None,
        typer.Option(
            help="How long the token is valid: 30m, 12h, 90d. Default: until it is revoked.",
            metavar="DURATION",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create a token and print it: it is shown once, and stored nowhere.

    A request carries it in the header `Authorization: Bearer TOKEN`.
    """
    scopes: list[Scope] = [one.value for one in dict.fromkeys(scope)]
    now = datetime.now(UTC)
    end = None if expires is None else _after(now, expires)
    with _one_line():
        token = create_token(read().tokens_file, name, scopes, now=now, expires=end)
    sys.stdout.write(token + "\n")


@app.command("list", epilog="Example: tastestream token list")
def list_tokens() -> None:
    """List the tokens: names, scopes, when each was created, and when it expires."""
    with _one_line():
        tokens = read_tokens(read().tokens_file)
    now = datetime.now(UTC)
    table = Table(Column("name", no_wrap=True), "scopes", "created", "expires")
    for token in tokens:
        expires = "never" if token.expires is None else f"{token.expires:%Y-%m-%d %H:%M:%SZ}"
        over = " (expired)" if token.is_expired(now) else ""
        table.add_row(token.name, ", ".join(token.scopes), f"{token.created:%Y-%m-%d %H:%M:%SZ}", expires + over)
    show(table)


@app.command("revoke", epilog="Example: tastestream token revoke --name shop")
def revoke(name: Name) -> None:
    """Revoke a token. Running workers refuse it within a second."""
    with _one_line():
        revoke_token(read().tokens_file, name)


def _after(now: datetime, duration: str) -> datetime:
    """When a token of that duration expires. Ends with one line and exit code 2 if it is no duration."""
    length = seconds("--expires", duration)
    if not length:
        fail(f"--expires {duration}: the token would never be valid; expected a duration such as 90d", USAGE)
    return now + timedelta(seconds=length)


@contextmanager
def _one_line() -> Generator[None]:
    """End with one line if the tokens cannot be read or changed."""
    try:
        yield
    except TokenError as error:
        fail(str(error))
    except StartupError as error:
        fail(str(error), MISCONFIGURED)
