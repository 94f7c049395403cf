"""Reads the trend from records of `category-trend`, for tests. Independent of the code that sums it up."""

from collections.abc import Iterable
from typing import Any

import msgspec

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
