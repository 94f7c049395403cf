"""A small prepared data set with pictures of its own, as `tastestream dataset` writes it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from offline_training.datasets.prepare import EVENTS, ITEMS, SUMMARY, DatasetSummary
from streams.demo.catalogue import CATALOGUE, read_products
from streams.messages import InteractionType

Row = tuple[str, str, InteractionType, int]
"""User, item, type, time in milliseconds."""
DAY = 86_400_000
START = 1_600_000_000_000 // DAY * DAY


def write(folder: Path, events: Iterable[Row], items: Mapping[str, tuple[str, list[str]]]) -> Path:
    """Write the folder. events: the rows, in order. items: picture and categories by id."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(zip(*events, strict=True)) or [()] * 4
    names = ("user", "item", "type", "time")
    types = (pa.string(), pa.string(), pa.string(), pa.int64())
    table = {name: pa.array(column, kind) for name, column, kind in zip(names, columns, types, strict=True)}
    pq.write_table(pa.table(table), folder / EVENTS, row_group_size=50)
    pq.write_table(
        pa.table(
            {
                "item": list(items),
                "image": [picture for picture, _ in items.values()],
                "categories": pa.array([names for _, names in items.values()], pa.list_(pa.string())),
            }
        ),
        folder / ITEMS,
    )
    kept = DatasetSummary(
        "made", 0, len(items), 0, 0, 0, labels={}, dropped={}, examples={}, pictures_in=[str(CATALOGUE)]
    )
    (folder / SUMMARY).write_bytes(msgspec.json.encode(kept))
    return folder


def shop(folder: Path, *, users: int, each: int, lost: str = "") -> Path:
    """Write events with the demo's products, whose categories the shipped bundle knows.

    Each user's events are in one category, except every fifth; several are on one day; some are returns.

    Args:
        folder: the folder to write.
        users: number of users.
        each: number of events per user.
        lost: an item whose picture is not a picture.
    """
    products = list(read_products().values())
    items = {one.item_id: (str(CATALOGUE / one.file), [one.category]) for one in products}
    if lost:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lost.jpg").write_bytes(b"no picture")
        items[lost] = (str(folder / "lost.jpg"), items[lost][1])
    kinds: tuple[InteractionType, ...] = ("view", "purchase", "cart", "purchase", "purchase", "return")
    names = list(items)
    categories = sorted({one.category for one in products})
    liked = [[one.item_id for one in products if one.category == category] for category in categories]

    def item(user: int, number: int) -> str:
        taste = liked[user % len(liked)]
        return names[(user * 5 + number * 7) % len(names)] if number % 5 == 4 else taste[number * 3 % len(taste)]

    rows: list[Row] = [
        (
            f"user-{user}",
            item(user, number),
            kinds[(user + number) % len(kinds)],
            START + number // 2 * DAY,
        )
        for number in range(each)
        for user in range(users)
    ]
    return write(folder, sorted(rows, key=lambda row: row[3]), items)
