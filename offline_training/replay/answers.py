"""What came out for each event that was played: in arrays while a replay runs, and in the run's folder, where it goes on.

The journal has a line for each answer, written before the next event of that user is produced. A line that a crash cut off is
dropped; its event is played again, under the same id.
"""

import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from offline_training.replay.exceptions import ReplayError
from streams.messages import Recommendation


class Answer(Struct, frozen=True, array_like=True):
    """What one event caused. `scores`: numbers of categories in the bundle and their scores, best first."""

    place: int
    bag_size: int = 0
    cold_start: bool = False
    scores: list[tuple[int, float]] = []
    latency: float | None = None
    """Milliseconds from produce to recommendation."""
    reason: str = ""
    """Why there is no recommendation: a dead letter's, or `erased`."""
    at: float | None = None
    """Milliseconds since the epoch, when it came."""


def answer(
    place: int,
    message: Recommendation,
    numbers: Mapping[str, int],
    latency: float | None = None,
    at: float | None = None,
) -> Answer:
    """A recommendation as an answer. Raises ReplayError for a category that the bundle does not have."""
    try:
        scores = [(numbers[one.category], one.score) for one in message.categories]
    except KeyError as error:
        raise ReplayError(
            f"recommendations of {message.model.name} {message.model.version} name the category {error}, which the bundle here "
            "does not have: set TASTESTREAM_BUNDLE to the one that the workers serve"
        ) from None
    return Answer(place, message.bag_size, message.cold_start, scores, latency, at=at)


class Answers:
    """The answers by the place of their events; a few bytes for each."""

    def __init__(self, events: int, top: int) -> None:
        """events: that are played. top: categories of a recommendation at most."""
        self.top = top
        self.given = np.zeros(events, bool)
        self.recommended = np.zeros(events, bool)
        self.bag_size = np.zeros(events, np.int32)
        self.cold_start = np.zeros(events, bool)
        self.latency = np.full(events, np.nan, np.float32)
        self.at = np.full(events, np.nan)
        self.reasons: dict[int, str] = {}
        self._categories = np.zeros((events, top), np.int32)
        self._scores = np.zeros((events, top), np.float32)
        self._listed = np.zeros(events, np.int32)

    def add(self, one: Answer) -> None:
        """The first answer to an event counts: one that a worker gave again may know more than there was to know."""
        place = one.place
        if self.given[place]:
            return
        if len(one.scores) > self.top:
            raise ReplayError(
                f"a recommendation lists {len(one.scores)} categories, and TASTESTREAM_TOP_K is {self.top} here: "
                "set it to what the workers have"
            )
        self.given[place] = True
        if one.reason:
            self.reasons[place] = one.reason
            return
        self.recommended[place] = True
        self.bag_size[place] = one.bag_size
        self.cold_start[place] = one.cold_start
        self.latency[place] = np.nan if one.latency is None else one.latency
        self.at[place] = np.nan if one.at is None else one.at
        self._listed[place] = len(one.scores)
        for rank, (category, score) in enumerate(one.scores):
            self._categories[place, rank], self._scores[place, rank] = category, score

    def scores(self, place: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Categories int32 [n] and their scores float32 [n], best first."""
        listed = self._listed[place]
        return self._categories[place, :listed], self._scores[place, :listed]


class Journal:
    """The answers in a file, held by a lock. A context manager."""

    def __init__(self, path: Path) -> None:
        """Raises ReplayError when it cannot be written, or another process has it."""
        self._path = path
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise ReplayError(f"{path} cannot be written: {error.strerror}: choose another --out") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ReplayError(f"another replay writes to {path}: wait for it, or choose another --out") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def answers(self) -> Iterator[Answer]:
        """Those so far. What stands after the last whole line is cut off. Raises ReplayError when the file is damaged."""
        decode = msgspec.json.Decoder(Answer).decode
        self._file.seek(0)
        whole = 0
        for line, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                self._file.truncate(whole)
                return
            whole += len(text)
            try:
                yield decode(text)
            except msgspec.DecodeError as error:
                raise ReplayError(
                    f"{self._path}, line {line}: {error}: remove the run's folder and play again"
                ) from error

    def write(self, one: Answer) -> None:
        self._file.write(msgspec.json.encode(one) + b"\n")

    def flush(self) -> None:
        """A process that is killed loses nothing of what was written before. Raises ReplayError when the disk is full."""
        try:
            self._file.flush()
        except OSError as error:
            raise ReplayError(
                f"{self._path} cannot be written: {error.strerror}; make room, and run it again to go on"
            ) from error
