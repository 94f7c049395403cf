"""The events of a prepared data set, one at a time in time order.

Memory holds the items, and the number of events of each user, but not the events.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.bundle import file_sha256
from model.exceptions import PictureError
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.picture_files import PictureFiles
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.prepare import EVENTS, ITEMS, picture_folders, summary_of
from offline_training.replay.exceptions import ReplayError
from streams.messages import InteractionType

ROWS = 4096  # events per read
TRIED = 100  # local pictures that are tried to find one that can be read
PREPARE = "prepare the data set (again) with `tastestream dataset`"


class PlayedEvent(NamedTuple):
    """An event of the data set.

    Attributes:
        place: its index among the events that are played, from 0.
        number: its row in `events.parquet`, from 0.
        time: milliseconds since the epoch.
    """

    place: int
    number: int
    user: str
    item: str
    type: InteractionType
    time: int


class PlayedItem(NamedTuple):
    """An item of the data set. `number` is its row in `items.parquet`, from 0."""

    number: int
    picture: PictureRef | None
    categories: tuple[str, ...]

    @property
    def local_picture(self) -> PictureRef | None:
        """The picture, if it is a file or in an archive."""
        return None if self.picture is None or self.picture.is_url else self.picture


@dataclass(frozen=True)
class EventSelection:
    """Which events are played.

    Attributes:
        users: share of the users, chosen by a hash of their names.
        limit: maximum number of events.
        since: time of the first events, milliseconds since the epoch.
        until: time of the first events that are not played, milliseconds since the epoch.
    """

    users: float = 1.0
    limit: int | None = None
    since: int | None = None
    until: int | None = None

    def takes(self, user: str) -> bool:
        """Whether a user is in the share. A larger share contains the users of every smaller one."""
        return self.users >= 1 or _hash(user) < self.users * 2**64


@dataclass
class Overview:
    """Counts of the events to play, from a first pass over them.

    Attributes:
        events: number of events.
        of_user: number of events of each user.
        left_out: number of events that cannot be played, by reason.
        first: time of the first event, milliseconds.
        last: time of the last event, milliseconds.
    """

    events: int = 0
    of_user: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    first: int = 0
    last: int = 0


class PreparedDataset:
    """A folder that `tastestream dataset` wrote."""

    def __init__(self, folder: Path) -> None:
        """Read the items.

        Raises:
            ReplayError: the folder is no prepared data set.
            DatasetError: pyarrow is not installed, or the summary of the folder is damaged.
        """
        self.folder = folder
        for name in (EVENTS, ITEMS):
            if not (folder / name).is_file():
                raise ReplayError(f"{folder / name}: there is no such file: {PREPARE}")
        self.items = _read_items(folder / ITEMS)
        summary = summary_of(folder)
        self.left_out = summary.dropped if summary else {}
        """What was left out when the folder was prepared: counts by reason."""
        self.folders = picture_folders(folder, summary)
        """Where the local pictures may be."""
        self._events = folder / EVENTS

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the events."""
        return file_sha256(self._events)[:16]

    def overview(self, selection: EventSelection) -> Overview:
        """Read all selected events once and count them.

        Raises:
            ReplayError: the events are not in time order, or there are none.
        """
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
                f"{f'left out: {left_out}' if left_out else 'select more users or other times'}"
            )
        return seen

    def events(self, selection: EventSelection) -> Iterator[PlayedEvent]:
        """Yield the selected events."""
        return self._selected(selection, Counter())

    def check_pictures(self) -> None:
        """Check that one of the first local pictures can be read.

        Raises:
            ReplayError: none of them can: the files were moved, or the data set was.
        """
        local = [picture for item in self.items.values() if (picture := item.local_picture)][:TRIED]
        if not local:
            return
        first = ""
        with PictureFiles(self.folders) as files:
            for picture in local:
                try:
                    files.read(picture)
                except PictureError as error:
                    first = first or str(error)
                else:
                    return
        raise ReplayError(f"{self.folder}: its pictures are missing, such as {first}: {PREPARE}")

    def _selected(self, selection: EventSelection, left_out: Counter[str]) -> Iterator[PlayedEvent]:
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

    def _rows(self) -> Iterator[PlayedEvent]:
        number, before = 0, -(2**63)
        names = ("user", "item", "type", "time")
        for batch in self._open().iter_batches(ROWS, columns=list(names)):
            times: Any = batch.column("time").to_numpy()
            if len(times) and (times[0] < before or (np.diff(times) < 0).any()):
                raise ReplayError(f"{self._events}: the events are not in time order: {PREPARE}")
            before = int(times[-1]) if len(times) else before
            for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                yield PlayedEvent(number, number, *row)
                number += 1

    def _open(self) -> Any:
        return parquet_module().ParquetFile(self._events)


@dataclass(frozen=True)
class EventStream:
    """The selected events of a data set, with their counts. Every stage reads the same stream.

    Attributes:
        dataset: the data set.
        selection: which of its events are played.
        overview: their counts.
    """

    dataset: PreparedDataset
    selection: EventSelection
    overview: Overview

    def __len__(self) -> int:
        return self.overview.events

    @property
    def items(self) -> dict[str, PlayedItem]:
        return self.dataset.items

    def events(self) -> Iterator[PlayedEvent]:
        """Yield the events, read anew from the file."""
        return self.dataset.events(self.selection)


def _read_items(path: Path) -> dict[str, PlayedItem]:
    table = parquet_module().read_table(path, columns=["item", "image", "categories"])
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return {
        item: PlayedItem(number, PictureRef.parse(image), tuple(names))
        for number, (item, image, names) in enumerate(rows)
    }


def _hash(user: str) -> int:
    return int.from_bytes(blake2b(user.encode(), digest_size=8).digest(), "big")
