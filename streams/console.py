"""What the commands of `tastestream` share: reading the settings, printing, and ending with one line and an exit code.

Exit codes:  2    an argument is wrong
             69   no broker within `broker_timeout`
             78   a setting is wrong; a supervisor does not restart such a process
             1    anything else
"""

import asyncio
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from model.exceptions import TastestreamError
from streams.exceptions import BrokerUnreachable
from streams.runtime.process import MISCONFIGURED, UNAVAILABLE, configure_logging
from streams.text import visible
from streams.times import milliseconds_of, shown

if TYPE_CHECKING:
    from rich.progress import Progress

    from streams.settings import Settings

T = TypeVar("T")

USAGE = 2  # exit code of a wrong argument, as of the shell's own commands
UNITS = {"m": 60, "h": 3600, "d": 86_400}  # seconds


class PlainConsole(Console):
    """A console on which a string is text and never markup, on one line, with everything escaped that is not printable.

    That holds for what is printed and for the cells and titles of tables. To style a part, pass a `rich.text.Text`, with
    text of strangers in it by `visible`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


config: Path | None = None  # the file of `--config`; `streams.cli` sets it before the command runs


def read() -> "Settings":
    """Read the settings. Ends with one line and exit code 78 if one is wrong."""
    from streams.settings import read_settings  # noqa: PLC0415 -- half of the time of `--help`

    try:
        return read_settings(config)
    except TastestreamError as error:
        fail(str(error), MISCONFIGURED)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with one line on standard error."""
    print_error(message)
    raise typer.Exit(code)


def fail_without_extra(command: str, module: str, extra: str) -> NoReturn:
    """End with one line that names the missing module and the extra that installs it, and with exit code 2."""
    fail(f"{command} needs {module}: pip install 'tastestream[{extra}]'", USAGE)


def print_error(message: str) -> None:
    """Print one line on standard error. The message is text and not markup: it may quote a message's content."""
    line = " ".join(message.split())
    PlainConsole(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "red"), " ", visible(line)))


def as_markup(text: object) -> str:
    """Text of strangers for a string with markup."""
    return escape(visible(text))


def window(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """The options --from and --until in milliseconds since the epoch.

    Ends with one line and exit code 2 if one is not a time, or if they are out of order.
    """
    first, end = _time("--from", since), _time("--until", until)
    if first is not None and end is not None and first >= end:
        fail(f"--from {since} is not before --until {until}: there is no event between them", USAGE)
    return first, end


def _time(option: str, text: str | None) -> int | None:
    time = None if text is None else milliseconds_of(text)
    if time is None and text is not None:
        fail(f"{option} {shown(text)}: expected a time such as 2026-11-01 or 2026-11-01T12:00:00Z", USAGE)
    return time


def seconds(option: str, text: str) -> int:
    """Seconds of a duration such as 90d. Ends with one line and exit code 2 if it is none."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found is None:
        fail(f"{option} {shown(text)}: expected a duration such as 30m, 12h or 90d", USAGE)
    return int(found[1]) * UNITS[found[2]]


def show(table: Table) -> None:
    """Print a table on standard output."""
    stdout().print(table)


def say(console: Console, line: str) -> None:
    """Print one line, however long, as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def counting_progress(*, hidden: bool = False) -> "Progress":
    """A progress bar on standard error, if that is a terminal; it disappears at the end. Standard output has the result only."""
    from rich.progress import (  # noqa: PLC0415 -- most commands show no progress
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = PlainConsole(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,  # Rich would redirect it to standard error
        redirect_stderr=False,
        disable=hidden or not console.is_terminal,
    )


def stdout() -> PlainConsole:
    """Standard output. Tables are wide if it is a file or another program."""
    return PlainConsole(width=None if sys.stdout.isatty() else 200)


def on_kafka(settings: "Settings", work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result. Ends with one line if the broker or the topics do not permit it."""
    configure_logging(settings)
    try:
        return asyncio.run(work)
    except BrokerUnreachable as error:
        fail(str(error), UNAVAILABLE)
    except TastestreamError as error:
        fail(str(error))
