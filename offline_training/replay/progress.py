"""Progress bars of a replay on the terminal. They disappear when they are done, and are not shown in a log file."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

from rich import progress as bars

from offline_training.progress import Advance
from streams.console import PlainConsole, as_markup

T = TypeVar("T")


def track(values: Iterable[T], title: str, total: int) -> Iterable[T]:
    """Yield `values`, and show how many of `total` have passed."""
    console = PlainConsole(stderr=True)
    return bars.track(values, as_markup(title), total, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def step(title: str, total: float) -> Generator[Advance]:
    """Open a progress bar: a `progress.Step`."""
    console = PlainConsole(stderr=True)
    with bars.Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(as_markup(title), total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def spinner(title: str) -> Generator[None]:
    """Show a title while the context is open."""
    with PlainConsole(stderr=True).status(as_markup(title)):
        yield
