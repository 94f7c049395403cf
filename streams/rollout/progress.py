"""How far a command is: a progress bar on standard error, or a log line now and then where there is no terminal."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.console import PlainConsole

logger = logging.getLogger(__name__)

LOG_INTERVAL = 30.0  # seconds between two log lines
UPDATE = 0.1  # seconds between two updates of the bar


class Work:
    """The step that a command is at, and what of it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("", total=None, visible=False, count="", speed="")
        self._what, self._total = "", 0
        self._done = 0
        self._begun = self._shown = self._logged = monotonic()

    def begin(self, what: str, total: int) -> None:
        """Begin a step that has about `total` parts."""
        self._what, self._total, self._done = what, total, 0
        self._begun = self._logged = monotonic()
        self._progress.reset(self._bar, description=what, total=total, visible=True, count="", speed="")

    def advance(self, parts: int = 1) -> None:
        """Some more parts of the step are done."""
        self._done += parts
        now = monotonic()
        if now - self._shown >= UPDATE:
            self._shown = now
            speed = self._done / max(now - self._begun, UPDATE)
            total = max(self._total, self._done)
            count, rate = f"{self._done:,}/{total:,}", f"{speed:,.0f}/s"
            self._progress.update(self._bar, completed=self._done, total=total, count=count, speed=rate)
        if self._progress.disable and now - self._logged >= LOG_INTERVAL:
            self._logged = now
            logger.info("%s: %d of about %d", self._what, self._done, self._total)


@contextmanager
def shown_work() -> Generator[Work]:
    """Show the steps of a command while it runs. The bar disappears at the end: standard output has the result only."""
    console = PlainConsole(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,  # Rich would redirect it to standard error
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as progress:
        yield Work(progress)
