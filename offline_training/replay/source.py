"""Events of a prepared data set (`tastestream dataset`), one after the other in the order of time, however many there are.

Held in memory: the items, and how many events each user has.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from model.bundle import file_sha256
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import EVENTS, ITEMS, SUMMARY, DatasetSummary
from offline_training.replay.exceptions import ReplayError
from streams.messages import InteractionType

ROWS = 4096  # events read at a time
PREPARE = "prepare the data set (again) with `tastestream dataset`"


class Event(NamedTuple):
    """One row of `events.parquet`, of which it is the `number`th, from 0. `time`: integer milliseconds."""

    place: int
    """Among the events that are played, from 0."""
    number: int
    user: str
    item: str
    type: InteractionType
    time: int


class PlayedItem(NamedTuple):
    """A row of `items.parquet`, the `number`th from 0."""

    number: int
    picture: PictureRef | None
    categories: tuple[str, ...]

    @property
    def local_picture(self) -> PictureRef | None:
        """The picture, if it is a file or in an archive."""
        return None if self.picture is None or self.picture.is_url else self.picture


@dataclass(frozen=True)
class Selection:
    """Which events are played: of a share of the users, chosen by their names' hash; of a time; the first so many."""

    users: float = 1.0
    limit: int | None = None
    since: int | None = None
    """Milliseconds; events of this time are in."""
    until: int | None = None
    """Milliseconds; events of this time are not."""

    def takes(self, user: str) -> bool:
        """The same users for the same share, and among them those of any smaller one."""
        return self.users >= 1 or _hash(user) < self.users * 2**64


@dataclass
class Overview:
    """What will be played, told by a first reading."""

    events: int = 0
    of_user: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    """Events by the reason why they cannot be played."""
    first: int = 0
    last: int = 0


class DataSet:
    """A prepared folder. Opening it raises ReplayError, or DatasetError without pyarrow, when it is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (EVENTS, ITEMS):
            if not (folder / name).is_file():
                raise ReplayError(f"{folder / name}: there is no such file: {PREPARE}")
        self.items = _read_items(folder / ITEMS)
        self.left_out = _left_out(folder / SUMMARY)
        """What was left out when the folder was prepared, by reason."""
        self._events = folder / EVENTS

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ between any two streams of events."""
        return file_sha256(self._events)[:16]

    def overview(self, selection: Selection) -> Overview:
        """Read all events once. Raises ReplayError when they are not in the order of time, or none is left."""
        seen = Overview()
        for event in self._selected(selection, seen.left_out):
            seen.first = seen.first if seen.events else event.time
            seen.last = event.time
            seen.events += 1
            seen.of_user[event.user] += 1
        if not seen.events:
            left_out = ", ".join(f"{reason} {count:,}" for reason, count in seen.left_out.most_common())
            raise ReplayError(
                f"{self._events}: no event to play: "
                f"{f'left out: {left_out}' if left_out else 'ask for more users, or another time'}"
            )
        return seen

    def events(self, selection: Selection) -> Iterator[Event]:
        """The events to play."""
        return self._selected(selection, Counter())

    def _selected(self, selection: Selection, left_out: Counter[str]) -> Iterator[Event]:
        played = 0
        for event in self._rows():
            if selection.until is not None and event.time >= selection.until:
                return
            if (selection.since is not None and event.time < selection.since) or not selection.takes(event.user):
                continue
            item = self.items.get(event.item)
            if item is None or item.picture is None:
                left_out["unknown item" if item is None else "item without picture"] += 1
                continue
            yield event._replace(place=played)
            played += 1
            if played == selection.limit:
                return

    def _rows(self) -> Iterator[Event]:
        number, before = 0, -(2**63)
        names = ("user", "item", "type", "time")
        for batch in self._open().iter_batches(ROWS, columns=list(names)):
            times: Any = batch.column("time").to_numpy()
            if len(times) and (times[0] < before or (np.diff(times) < 0).any()):
                raise ReplayError(f"{self._events}: the events are not in the order of time: {PREPARE}")
            before = int(times[-1]) if len(times) else before
            for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                yield Event(number, number, *row)
                number += 1

    def _open(self) -> Any:
        return parquet_module().ParquetFile(self._events)


def _read_items(path: Path) -> dict[str, PlayedItem]:
    table = parquet_module().read_table(path, columns=["item", "image", "categories"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return {
        item: PlayedItem(number, PictureRef.parse(image), tuple(names))
        for number, (item, image, names) in enumerate(rows)
    }


def _left_out(path: Path) -> dict[str, int]:
    """Of a folder's summary; nothing where it has none. Raises ReplayError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetSummary).dropped if path.is_file() else {}
    except msgspec.DecodeError as error:
        raise ReplayError(f"{path}: {error}: {PREPARE}") from error


def _hash(user: str) -> int:
    return int.from_bytes(blake2b(user.encode(), digest_size=8).digest(), "big")
