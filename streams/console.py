"""What the commands of `tastestream` have in common: the settings they read, tables, and the one line with which they fail."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.exceptions import TastestreamError
from streams.exceptions import BrokerUnreachable
from streams.runtime.process import UNAVAILABLE, configure_logging
from streams.times import milliseconds_of

if TYPE_CHECKING:
    from streams.settings import Settings

T = TypeVar("T")

USAGE = 2  # exit code of a bad argument, as the shell's own

config: Path | None = None  # the file of `--config`, which typer hands over before the command


def read() -> "Settings":
    """The settings; one line and exit code 2 where they are wrong."""
    from streams.settings import read_settings  # noqa: PLC0415 -- half of the time of `--help`

    try:
        return read_settings(config)
    except TastestreamError as error:
        fail(str(error), USAGE)


def fail(message: str, code: int = 1) -> NoReturn:
    """End with one line on standard error."""
    print_error(message)
    raise typer.Exit(code)


def print_error(message: str) -> None:
    """One line on standard error. What stands in brackets is text: a message quotes what strangers wrote."""
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/red] {escape(line)}")


def window(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """The options --from and --until in milliseconds; one line and exit code 2 where they are no times, or out of order."""
    first, end = _moment("--from", since), _moment("--until", until)
    if first is not None and end is not None and first >= end:
        fail(f"--from {since} is not before --until {until}: there is no event between them", USAGE)
    return first, end


def _moment(option: str, text: str | None) -> int | None:
    moment = None if text is None else milliseconds_of(text)
    if moment is None and text is not None:
        fail(f"{option} {text!r}: expected a time such as 2026-11-01 or 2026-11-01T12:00:00Z", USAGE)
    return moment


def show(table: Table) -> None:
    """Print a table."""
    stdout().print(table)


def stdout() -> Console:
    """Standard output for tables, which are wide where they go to a file or another program."""
    return Console(width=None if sys.stdout.isatty() else 200)


def on_kafka(settings: "Settings", work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; one line and its exit code where the broker or the topics do not let it."""
    configure_logging(settings)
    try:
        return asyncio.run(work)
    except BrokerUnreachable as error:
        fail(str(error), UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error))
