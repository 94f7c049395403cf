"""The subcommands of `tastestream token` and their options."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Column, Table

from streams.console import fail, read, show
from streams.exceptions import StartupError
from streams.runtime.process import MISCONFIGURED
from streams.serve.api.tokens import Scope, TokenError, create_token, read_tokens, revoke_token

app = typer.Typer(help="Create, list and revoke tokens of the HTTP API.", no_args_is_help=True)


class ScopeChoice(StrEnum):
    read = "read"
    write = "write"
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
            help="read: ask; write: send events; admin: both, and erase and export users. Repeat it for several."
        ),
    ],
    name: Name,
) -> None:
    """Create a token and print it: it is shown once, and stored nowhere.

    A request carries it in the header `Authorization: Bearer TOKEN`.
    """
    scopes: list[Scope] = [one.value for one in dict.fromkeys(scope)]
    with _one_line():
        token = create_token(read().tokens_file, name, scopes, now=datetime.now(UTC))
    sys.stdout.write(token + "\n")


@app.command("list", epilog="Example: tastestream token list")
def list_tokens() -> None:
    """List the tokens: names, scopes, and when each was created."""
    with _one_line():
        tokens = read_tokens(read().tokens_file)
    table = Table(Column("name", no_wrap=True), "scopes", "created")
    for token in tokens:
        table.add_row(token.name, ", ".join(token.scopes), f"{token.created:%Y-%m-%d %H:%M:%SZ}")
    show(table)


@app.command("revoke", epilog="Example: tastestream token revoke --name shop")
def revoke(name: Name) -> None:
    """Revoke a token. Running workers refuse it within a second."""
    with _one_line():
        revoke_token(read().tokens_file, name)


@contextmanager
def _one_line() -> Generator[None]:
    """End with one line if the tokens cannot be read or changed."""
    try:
        yield
    except TokenError as error:
        fail(str(error))
    except StartupError as error:
        fail(str(error), MISCONFIGURED)
