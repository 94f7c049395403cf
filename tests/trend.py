"""Reads the trend from records of `category-trend`, for tests. Independent of the code that sums it up."""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.aggregator import TREND_DAYS

DAY = 86_400_000  # milliseconds
ITEM = 10_000  # what an item that was bought counts in a category that it certainly has

Rows = dict[int, list[int]]  # by day: the counts of each category


def latest_rows(records: Iterable[Any]) -> dict[int, tuple[str, Rows]]:
    """The labels version and the rows in the latest record of each partition; without those whose latest record is of others."""
    latest: dict[int, tuple[str, Rows]] = {}
    for record in records:
        if not (record.key or b"").isdigit():
            continue
        latest.pop(int(record.key), None)
        try:
            content = msgspec.msgpack.decode(record.value or b"")
        except msgspec.DecodeError:
            continue
        if isinstance(content, dict) and content:
            latest[int(record.key)] = content["labels"], content["rows"]
    return latest


def total(snapshots: dict[int, tuple[str, Rows]], labels: str) -> Rows:
    """The sum over the partitions that were counted by some labels."""
    rows: Rows = {}
    for version, own in snapshots.values():
        for day, counts in own.items() if version == labels else ():
            rows[day] = [a + b for a, b in zip(rows.get(day, [0] * len(counts)), counts, strict=True)]
    return rows


def windows(rows: Rows, moment: int, categories: int) -> NDArray[np.float32]:
    """The items that were taken in each window of `TREND_DAYS` before a moment, float32 [3, D]. Day by day, from the definition.

    Args:
        rows: the trend.
        moment: milliseconds since the epoch. A day that began before it counts.
        categories: D.
    """
    found = np.zeros((len(TREND_DAYS), categories))
    for day, counts in rows.items():
        for window, days in enumerate(TREND_DAYS):
            if day * DAY < moment and (days is None or (day + days) * DAY >= moment):
                found[window] += np.array(counts) / ITEM
    return found.astype(np.float32)
