"""A small shop, written as each of the data sets in docs/train/ is published: pictures of three colours, and people who like one
or two of them. The files have the names that the pages use.
"""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.offline_training.datasets.test_dvbpr import npy, python_2

KINDS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 210)}
EACH, USERS, EVENTS = 12, 150, 10
FIRST = 1_393_372_800  # seconds


def asin(kind: str, number: int) -> str:
    return f"B{list(KINDS).index(kind):04d}{number:05d}"


ITEMS = {asin(kind, number): kind for kind in KINDS for number in range(EACH)}
LOST = asin("red", 0)  # its picture is not where its address says


@cache
def pictures() -> dict[str, bytes]:
    """JPEG by item."""
    noise = np.random.default_rng(0)
    found: dict[str, bytes] = {}
    for item, kind in ITEMS.items():
        pixels = np.clip(np.array(KINDS[kind]) + noise.normal(0, 25, (64, 64, 3)), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        found[item] = file.getvalue()
    return found


def purchases() -> Iterable[tuple[str, str, int]]:
    """User, item, and the time in seconds."""
    chance = random.Random(0)
    for user in range(USERS):
        liked = chance.sample(list(KINDS), chance.choice([1, 2]))
        for place in range(EVENTS):
            yield f"A{user:013d}", asin(chance.choice(liked), chance.randrange(EACH)), FIRST + 86_400 * place


def beauty(folder: Path, url: str) -> None:
    """2014: ratings, user first; metadata in Python literals; the pictures in a folder beside them."""
    del url
    write_csv(folder / "ratings_Beauty.csv", ([user, item, "5.0", str(time)] for user, item, time in purchases()))
    lines = [
        repr({"asin": item, "imUrl": f"http://ecx.images-amazon.example/{item}.jpg", "title": "It's one",
              "categories": [["Beauty", "Makeup", kind.title()]], "salesRank": {"Beauty": 931125}})
        for item, kind in ITEMS.items()
    ]  # fmt: skip
    (folder / "meta_Beauty.json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (folder / "images").mkdir()
    for item, picture in pictures().items():
        (folder / "images" / f"{item}.jpg").write_bytes(picture)
    (folder / "images" / f"{LOST}.jpg").write_bytes(b"no picture")


def magazines(folder: Path, url: str) -> None:
    """2018: reviews, and metadata with markup in them and a list of URLs for each item."""
    write_json(
        folder / "Magazine_Subscriptions_5.json.gz",
        ({"overall": 5.0, "verified": True, "reviewerID": user, "asin": item, "reviewText": "a", "unixReviewTime": time}
         for user, item, time in purchases()),
    )  # fmt: skip
    write_json(
        folder / "meta_Magazine_Subscriptions.json.gz",
        ({"category": ["Magazine Subscriptions", "Home &amp; Garden", f"<b>{kind}</b>"], "asin": item,
          "title": "<span class=\"a\"", "imageURL": [f"{url}/{item}-small"], "imageURLHighRes": [f"{url}/{item}"]}
         for item, kind in ITEMS.items()),
    )  # fmt: skip


def handmade(folder: Path, url: str) -> None:
    """2023: splits as CSV with a header and milliseconds; metadata with images of several sizes."""
    rows = [[user, item, "5.0", str(1000 * time), ""] for user, item, time in purchases()]
    last = FIRST + 86_400 * (EVENTS - 1)
    for split in ("train", "test"):
        part = [row for row in rows if (row[3] == str(1000 * last)) == (split == "test")]
        header = ["user_id", "parent_asin", "rating", "timestamp", "history"]
        write_csv(folder / f"Handmade_Products.{split}.csv.gz", [header, *part])
    write_json(
        folder / "meta_Handmade_Products.jsonl.gz",
        ({"main_category": "Handmade", "parent_asin": item, "categories": ["Handmade Products", "Jewelry", kind],
          "images": [{"thumb": f"{url}/thumb", "large": f"{url}/{item}", "variant": "MAIN", "hi_res": None}]}
         for item, kind in ITEMS.items()),
    )  # fmt: skip


def fashion6(folder: Path, url: str) -> None:
    """DVBPR: the array as Python 2 wrote it, the pictures in it."""
    del url
    numbers = {item: number for number, item in enumerate(ITEMS)}
    items = {
        numbers[item]: {
            b"asin": item.encode(),
            b"imgs": pictures()[item] if item != LOST else b"no picture",
            b"categories": [[b"Clothing", kind.encode()]],
        }
        for item, kind in ITEMS.items()
    }
    train: dict[int, list[Any]] = {}
    test: dict[int, list[Any]] = {}
    for user, item, time in purchases():
        review = {b"reviewerID": user.encode(), b"asin": item.encode(), b"productid": numbers[item]}
        last = time == FIRST + 86_400 * (EVENTS - 1)
        (test if last else train).setdefault(int(user[1:]), []).append(review)
    parts = [train, {}, test, items, USERS, len(ITEMS)]
    (folder / "AmazonFashion6ImgPartitioned.npy").write_bytes(npy(python_2(parts)))


def shop(folder: Path, url: str) -> None:
    """Two tables; some pictures in files, the others by URL."""
    for number, (item, picture) in enumerate(pictures().items()):
        if number % 2:
            (folder / f"{item}.jpg").write_bytes(picture)
    addresses = (f"{item}.jpg" if number % 2 else f"{url}/{item}" for number, item in enumerate(ITEMS))
    rows = [[item, address, f"colour > {ITEMS[item]}"] for item, address in zip(ITEMS, addresses, strict=True)]
    write_csv(folder / "items.csv", [["item", "image", "categories"], *rows])
    write_csv(folder / "events.csv", [["user", "item", "time"], *([u, i, str(t)] for u, i, t in purchases())])


SOURCES: dict[str, Callable[[Path, str], None]] = {
    "beauty": beauty, "magazines": magazines, "handmade": handmade, "fashion6": fashion6, "shop": shop
}  # fmt: skip
"""By the names that the pages give the folders. url: of a server that has the pictures by item, all but `LOST`."""


def write_json(path: Path, rows: Iterable[Any]) -> None:
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def write_csv(path: Path, rows: Iterable[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
