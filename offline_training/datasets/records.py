"""The rows that every format is read into."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

from model.exceptions import TastestreamError
from offline_training.datasets.picture_ref import PictureRef
from streams.exceptions import UnreadableTime
from streams.times import parse_time

EventType = Literal["view", "cart", "purchase", "return"]

TAG = re.compile(r"<[^>]*>")
UNDECODED = 0xDC00  # a byte that is not of the encoding is read as this character plus the byte
NOT_DECODED = "has bytes that are not UTF-8; set --encoding if the file has another encoding"
SURROGATE = re.compile("[\ud800-\udfff]")
TIMES_LEFT_OUT = {
    "no_time": "event_without_time",
    "ambiguous_time": "event_with_ambiguous_time",
    "time_out_of_range": "event_time_out_of_range",
}
"""Reasons in `Dropped`, by the reasons of `UnreadableTime`."""


class DatasetError(TastestreamError):
    """A data set cannot be read or written; the message says what was expected and what was found."""


class DatasetEvent(NamedTuple):
    """A user did something with an item. `time` is in integer milliseconds since the epoch."""

    user: str
    item: str
    type: EventType
    time: int


class DatasetItem(NamedTuple):
    """An item of the catalogue.

    Attributes:
        item: its id.
        picture: where its picture is; None when it has none.
        paths: its categories, each as a path from the broadest to the narrowest.
    """

    item: str
    picture: PictureRef | None
    paths: tuple[tuple[str, ...], ...]


def unpaired(text: str) -> bool:
    """Whether text holds half of a surrogate pair, which no file can store: an undecoded byte, or `\\ud83d` in JSON."""
    return not text.isascii() and SURROGATE.search(text) is not None


def printed(value: object) -> str:
    """At most 200 characters of a value. A byte that is not of the encoding is written as `\\xe9`."""
    text = str(value)[:200]
    if not unpaired(text):
        return text
    return (
        "".join(
            f"\\x{code - UNDECODED:02x}" if UNDECODED <= (code := ord(one)) <= UNDECODED + 0xFF else one for one in text
        )
        .encode(errors="backslashreplace")
        .decode()
    )


def clean(text: Any) -> str:
    """Strip HTML from a name: resolve entities, cut out tags. Anything but text gives an empty name."""
    return " ".join(TAG.sub(" ", html.unescape(text)).split()) if isinstance(text, str) else ""


def category_paths(paths: Iterable[Any]) -> tuple[tuple[str, ...], ...]:
    """Clean category paths: no markup, no empty names, no empty paths, no duplicates."""
    cleaned = (
        tuple(filter(None, map(clean, cast("Sequence[Any]", path)))) for path in paths if isinstance(path, list | tuple)
    )
    return tuple(dict.fromkeys(path for path in cleaned if path))


@dataclass
class Dropped:
    """Counts what was left out, by reason, with the first example of each. Notes count what was kept but is worth knowing."""

    counts: Counter[str] = field(default_factory=Counter[str])
    notes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, reason: str, example: object = "", count: int = 1) -> None:
        """Count something that was left out."""
        self.counts[reason] += count
        self.examples.setdefault(reason, printed(example))

    def note(self, fact: str, example: object = "") -> None:
        """Count something that was kept."""
        self.notes[fact] += 1
        self.examples.setdefault(fact, printed(example))

    def include(self, other: "Dropped") -> None:
        """Add all counts, notes and examples of `other`."""
        self.counts += other.counts
        self.notes += other.notes
        self.examples = other.examples | self.examples

    def explained(self) -> str:
        """List the reasons, one per line, with their counts and first examples; "nothing" when there are none."""
        lines = [
            f"\n  {reason} {count:,}, the first: {self.examples[reason]}" for reason, count in self.counts.most_common()
        ]
        return ";".join(lines) or "nothing"

    def __str__(self) -> str:
        return ", ".join(f"{reason} {count:,}" for reason, count in self.counts.most_common()) or "nothing"


def event_time(value: Any, event: str, dropped: Dropped) -> int | None:
    """Read the time of an event, in milliseconds since the epoch. None when it is left out; `dropped` then counts the reason."""
    try:
        return parse_time(value)
    except UnreadableTime as error:
        dropped.add(TIMES_LEFT_OUT[error.reason], f"{event}: {error}")
        return None


class DatasetSource(Protocol):
    """A data set to read. Each call reads it from the start. Unusable records are skipped and counted in `dropped`."""

    @property
    def folders(self) -> Sequence[Path]:
        """The folders whose files its items may have as pictures."""
        ...

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        """Yield the events in the order of the files."""
        ...

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        """Yield the items. An item may come several times; the first one counts."""
        ...
