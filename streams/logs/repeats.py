"""Log lines that repeat: the first of a kind is written at once, and the others are summed up once a minute.

A line that may repeat names its kind: `logger.warning("...", extra=summed("dead letters", host))`. While lines of that kind come,
one line a minute says how many there were, and shows the last one.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TextIO

from typing_extensions import override

WINDOW = 60.0  # seconds
KINDS = 100  # kinds at a time: strangers name hosts. What is beyond counts as one kind of its name
OTHERS = "others"


class Kind(NamedTuple):
    """What repeats."""

    what: str  # in the plural: dead letters
    of: str  # a host, or a reason


def summed(what: str, of: str) -> dict[str, Kind]:
    """The `extra` of a line that may repeat."""
    return {"kind": Kind(what, of)}


@dataclass
class _Window:
    until: float
    count: int  # of lines
    held: int  # of these, lines that were not written
    last: logging.LogRecord


class Repeats:
    """Which lines are written, and what sums up the others. Pure apart from its clock."""

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = monotonic) -> None:
        self._window = window
        self._clock = clock
        self._windows: dict[Kind, _Window] = {}

    def add(self, kind: Kind, record: logging.LogRecord) -> bool:
        """Count a line. Returns whether to write it."""
        if kind not in self._windows and len(self._windows) >= KINDS:
            kind = Kind(kind.what, OTHERS)
        window = self._windows.get(kind)
        if window is None:
            self._windows[kind] = _Window(self._clock() + self._window, 1, 0, record)
            return True
        window.count += 1
        window.held += 1
        window.last = record
        return False

    @property
    def due(self) -> float | None:
        """Seconds until the next sum, or None if nothing repeats."""
        return max(min(one.until for one in self._windows.values()) - self._clock(), 0.0) if self._windows else None

    def sums(self, *, early: bool = False) -> list[logging.LogRecord]:
        """The lines that sum up the windows that have ended; with `early`, all windows. A kind of which no line came is forgotten."""
        now, found = self._clock(), list[logging.LogRecord]()
        for kind, window in list(self._windows.items()):
            if window.until > now and not early:
                continue
            if window.held:
                seconds = self._window - max(window.until - now, 0.0)
                found.append(window.last if window.held == 1 else _sum(kind, window, seconds))
                self._windows[kind] = _Window(now + self._window, 0, 0, window.last)
            else:
                del self._windows[kind]
        return found


def _sum(kind: Kind, window: _Window, seconds: float) -> logging.LogRecord:
    last = window.last
    line = logging.LogRecord(
        last.name,
        max(last.levelno, logging.WARNING),
        last.pathname,
        last.lineno,
        "%d %s of %s in %.0f s; the last: %s",
        (window.count, kind.what, kind.of, seconds, last.getMessage()),
        None,
    )
    line.fields = {"count": window.count, "kind": kind.what, "of": kind.of}
    return line


class SummingHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, and sums up those that repeat. A thread writes the sums that are due."""

    def __init__(self, stream: TextIO, repeats: Repeats | None = None) -> None:
        super().__init__(stream)
        self._repeats = repeats or Repeats()
        self._timer: threading.Timer | None = None

    @override
    def emit(self, record: logging.LogRecord) -> None:
        kind: Kind | None = getattr(record, "kind", None)
        if kind is None or self._repeats.add(kind, record):
            super().emit(record)
        if kind is not None and self._timer is None:
            self._wait()

    def _wait(self) -> None:
        """Wait for the next sum. Called with the handler's lock held."""
        due = self._repeats.due
        if due is None:
            self._timer = None
            return
        self._timer = threading.Timer(due, self._write_sums)
        self._timer.daemon = True
        self._timer.start()

    def _write_sums(self) -> None:
        with self.lock or nullcontext():
            self._sum_up(early=False)
            self._wait()

    def _sum_up(self, *, early: bool) -> None:
        """Write the sums, unless the stream is closed. Called with the handler's lock held."""
        if not self.stream.closed:
            for line in self._repeats.sums(early=early):
                super().emit(line)

    @override
    def close(self) -> None:
        """Write the sums of windows that have not ended."""
        with self.lock or nullcontext():
            self._sum_up(early=True)
            if self._timer is not None:
                self._timer.cancel()
        super().close()
