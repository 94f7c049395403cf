"""The rows that every source is read into."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, cast

from model.exceptions import TastestreamError

Type = Literal["view", "cart", "purchase", "return"]


class DatasetError(TastestreamError):
    """A data set is not what it should be; the message says what was expected and what was found."""


TAG = re.compile(r"<[^>]*>")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")


class DatasetEvent(NamedTuple):
    """Somebody did something with an item. `time`: integer milliseconds since the epoch."""

    user: str
    item: str
    type: Type
    time: int


class Item(NamedTuple):
    """What an item is.

    picture: a URL, or the path of a file (`picture_files`: it may be in an archive); "" when there is none.
    paths: its categories, each as a path from the broadest to the narrowest.
    """

    item: str
    picture: str
    paths: tuple[tuple[str, ...], ...]


def is_url(picture: str) -> bool:
    """Whether a picture has to be fetched, and is no file's path. A `data:` URL counts as one: no file is called so."""
    return SCHEME.match(picture) is not None


def clean(text: Any) -> str:
    """A name without HTML: entities are resolved, tags are cut out."""
    return " ".join(TAG.sub(" ", html.unescape(text)).split()) if isinstance(text, str) else ""


def category_paths(paths: Iterable[Any]) -> tuple[tuple[str, ...], ...]:
    """What there is of category paths, without markup, empty names and empty paths, each once."""
    cleaned = (
        tuple(filter(None, map(clean, cast("Sequence[Any]", path)))) for path in paths if isinstance(path, list | tuple)
    )
    return tuple(dict.fromkeys(path for path in cleaned if path))


@dataclass
class Dropped:
    """What was left out: how often for each reason, and the first example of it. Beside it, what was kept and is worth knowing."""

    counts: Counter[str] = field(default_factory=Counter[str])
    notes: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, reason: str, example: object = "", count: int = 1) -> None:
        """Something was left out."""
        self.counts[reason] += count
        self.examples.setdefault(reason, str(example)[:200])

    def note(self, fact: str, example: object = "") -> None:
        """Something is so, and was kept."""
        self.notes[fact] += 1
        self.examples.setdefault(fact, str(example)[:200])

    def include(self, other: "Dropped") -> None:
        """All that another one knows."""
        self.counts += other.counts
        self.notes += other.notes
        self.examples = other.examples | self.examples

    def explained(self) -> str:
        """Each reason with its count and its first example, a line each; "nothing"."""
        return (
            "".join(
                f"\n  {reason} {count:,}, the first: {self.examples[reason]}"
                for reason, count in self.counts.most_common()
            )
            or "nothing"
        )

    def __str__(self) -> str:
        return ", ".join(f"{reason} {count:,}" for reason, count in self.counts.most_common()) or "nothing"


class Source(Protocol):
    """A data set. Each call reads it anew; what cannot be used is told to `dropped` and passed over."""

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        """In the order of the files."""
        ...

    def items(self, dropped: Dropped) -> Iterator[Item]:
        """An item may come several times: the first one counts."""
        ...
