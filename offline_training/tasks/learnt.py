"""Says what a bundle learns from, for its manifest: how much, of when, and fingerprints that tell whether other data are the same."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.manifest import Data
from model.fingerprint import event_name, fingerprint
from offline_training.datasets.parquet import parquet_module
from offline_training.datasets.prepare import EVENTS
from offline_training.tasks.catalogue import Catalogue, read_summary
from offline_training.tasks.split import TaskName, held_out_user
from streams.messages import as_datetime


def learnt_data(
    folder: Path,
    catalogue: Catalogue,
    task: TaskName,
    *,
    new: NDArray[np.bool_] | None = None,
    apart: Collection[str] = (),
    source: str | None = None,
    until: int | None = None,
) -> Data:
    """Describe the events that a bundle learns from: without returns, unknown items, held-out users and held-out items.

    Args:
        folder: the prepared data set.
        catalogue: its items.
        task: what the bundle is trained for. *unseen* holds out items; every other task holds out users.
        new: bool [items], the items that are held out. None: no item.
        apart: users that are held out as well.
        source: name of the data set. None: as its summary says.
        until: only events before this time are learnt from, milliseconds since the epoch.
    """
    table = parquet_module().read_table(folder / EVENTS, columns=["user", "item", "type", "time"])
    users: list[str] = table["user"].to_pylist()
    items: list[str] = table["item"].to_pylist()
    times = np.asarray(table["time"].to_numpy()).astype(np.int64)
    known = set(catalogue.items if new is None else np.asarray(catalogue.items, dtype=object)[~new])
    learnt = {user for user in set(users).difference(apart) if task == "unseen" or not held_out_user(user)}
    kept = np.fromiter((user in learnt and item in known for user, item in zip(users, items, strict=True)), bool)
    kept &= np.asarray(table["type"].to_pylist(), dtype=object) != "return"
    if until is not None:
        kept &= times < until
    rows = np.flatnonzero(kept).tolist()
    of_events = {users[row] for row in rows}
    first, last = (second(int(times[kept].min())), second(int(times[kept].max()))) if rows else ("", "")
    return Data(
        source=read_summary(folder).source if source is None else source,
        users=len(of_events),
        items=len(known),
        events=len(rows),
        from_time=first,
        to_time=last,
        user_ids=fingerprint(of_events),
        user_items=fingerprint(event_name(users[row], items[row], int(times[row])) for row in rows),
    )


def learnt_pictures(source: str, pictures: int) -> Data:
    """Describe pictures with classes, from which a bundle learns without any event.

    Args:
        source: name of their folder.
        pictures: how many there are.
    """
    nothing = fingerprint(())
    return Data(
        source, users=0, items=pictures, events=0, from_time="", to_time="", user_ids=nothing, user_items=nothing
    )


def second(milliseconds: int) -> str:
    """Return a time, milliseconds since the epoch, as RFC 3339 to the second."""
    return f"{as_datetime(milliseconds):%Y-%m-%dT%H:%M:%SZ}"
