"""Amazon reviews and metadata of 2014 and 2018 (jmcauley.ucsd.edu, nijianmo.github.io) and of 2023 (amazon-reviews-2023.github.io).

Each object shows which generation it belongs to, so one data set may mix files of several generations:

    reviews    2014, 2018: reviewerID, asin, overall, unixReviewTime (s); 2023: user_id, parent_asin, rating, timestamp (ms)
    ratings    CSV without a header, user first (2014) or item first (2018), or with a header (2023)
    metadata   2014: imUrl, categories, in Python literals; 2018: imageURL or image, category; 2023: images, categories

A review counts as a purchase, unless a `RatingRule` maps its rating to another event type.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast, get_args

from offline_training.datasets.formats import text_files
from offline_training.datasets.formats.list_text import begins_like_list, list_in
from offline_training.datasets.ids import event_ids, item_id
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import (
    DatasetError,
    DatasetEvent,
    DatasetItem,
    Dropped,
    EventType,
    category_paths,
    event_time,
)
from offline_training.progress import Advance
from streams.times import shown

ASIN = re.compile(r"B[0-9A-Z]{9}|\d{9}[\dX]")
SAMPLE = 1000  # rows of a CSV without a header that are examined to find the item column
SIZES = ("hi_res", "large", "thumb")  # 2023: sizes of a picture, the largest first
COLUMN_NAMES = {
    "user": ("user_id", "user", "reviewerid"),
    "item": ("parent_asin", "asin", "item", "item_id"),
    "rating": ("rating", "overall"),
    "time": ("timestamp", "unixreviewtime", "time"),
}

RatingRule = Mapping[int, EventType | None]
"""The event type of each rating from 1 to 5; None: the review is left out."""

ALL_PURCHASES: RatingRule = dict.fromkeys(range(1, 6), "purchase")


def parse_rule(text: str) -> RatingRule:
    """Parse a rule such as `4-5=purchase,1-2=return`. Reviews with a rating that the rule does not name are left out.

    Raises:
        DatasetError: the text is no rule, or it maps one rating to two event types.
    """
    rule: dict[int, EventType | None] = dict.fromkeys(range(1, 6))
    for part in text.split(","):
        found = re.fullmatch(r"\s*([1-5])(?:-([1-5]))?\s*=\s*(\w+)\s*", part)
        if found is None or found[3] not in get_args(EventType):
            raise DatasetError(
                f"--ratings {shown(part.strip())}: expected for example 4-5=purchase, with one of {', '.join(get_args(EventType))}"
            )
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise DatasetError(
                f"--ratings {part.strip()!r}: {first} is above {last}: expected for example {last}-{first}={found[3]}"
            )
        for stars in range(first, last + 1):
            if rule[stars] is not None:
                raise DatasetError(f"--ratings {text!r}: {stars} is both {rule[stars]} and {found[3]}; name it once")
            rule[stars] = cast("EventType", found[3])
    return rule


@dataclass(frozen=True)
class Amazon:
    """A `DatasetSource` of Amazon's files.

    Attributes:
        item_first: the column order of ratings without a header; None: detect it.
        encoding: of the files; None: UTF-8, or what their first bytes say.
    """

    reviews: Sequence[Path]
    metadata: Sequence[Path]
    rule: RatingRule
    item_first: bool | None = None
    advance: Advance = text_files.nothing
    encoding: str | None = None

    @property
    def folders(self) -> Sequence[Path]:
        return ()  # its pictures are on the web

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        for path in self.reviews:
            if ".csv" in path.suffixes:
                yield from self._ratings(path, dropped)
            else:
                for review in text_files.objects(path, dropped, self.advance, self.encoding):
                    user, item = _first(review, "reviewerID", "user_id"), _first(review, "parent_asin", "asin")
                    rating, time = _first(review, "overall", "rating"), _first(review, "unixReviewTime", "timestamp")
                    found = self._interaction(user, item, rating, time, dropped)
                    if found is not None:
                        yield found

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        for path in self.metadata:
            for found in text_files.objects(path, dropped, self.advance, self.encoding):
                item = item_id(_first(found, "parent_asin", "asin"), found, dropped)
                if item:
                    yield DatasetItem(item, picture_of(found), paths_of(found))

    def _ratings(self, path: Path, dropped: Dropped) -> Iterator[DatasetEvent]:
        rows = text_files.rows(path, dropped, self.advance, self.encoding)
        head = list(islice(rows, SAMPLE))
        if not head:
            raise DatasetError(f"{path}: expected rows of user, item, rating and time, found none")
        columns = _header(head[0])
        if columns is not None:
            head = head[1:]
            if not head:
                raise DatasetError(f"{path}: expected rows below the header, found none")
        else:
            item_first = self.item_first if self.item_first is not None else _item_first(path, head)
            columns = {"item": 1 - item_first, "user": int(item_first), "rating": 2, "time": 3}
        for row in chain(head, rows):
            if len(row) <= max(columns.values()):
                dropped.add("broken_line", f"{path.name}: {row}")
                continue
            user, item, rating, time = (row[columns[name]].strip() for name in ("user", "item", "rating", "time"))
            found = self._interaction(user, item, rating, time, dropped)
            if found is not None:
                yield found

    def _interaction(self, user: Any, item: Any, rating: Any, time: Any, dropped: Dropped) -> DatasetEvent | None:
        """Turn a review into an event by its rating. None when it is left out; `dropped` then counts the reason."""
        ids = event_ids(user, item, dropped)
        if ids is None:
            return None
        user, item = ids
        try:
            stars = 0 if isinstance(rating, bool) else round(float(rating))
        except (TypeError, ValueError, OverflowError):
            stars = 0
        if stars not in range(1, 6):
            dropped.add("review_without_rating", f"{user} {item}: rating {rating!r}")
            return None
        kind = self.rule.get(stars)
        if kind is None:
            dropped.add("rating_stands_for_nothing", f"{user} {item}: {stars}")
            return None
        milliseconds = event_time(time, f"{user} {item}", dropped)
        return None if milliseconds is None else DatasetEvent(user, item, kind, milliseconds)


def picture_of(found: Mapping[str, Any]) -> PictureRef | None:
    """Find the first picture of an item, in its largest size. None when it has no URL of a picture."""
    images = found.get("images")
    if isinstance(images, dict):  # 2023, as the Hugging Face `datasets` library writes it: a list for each size
        by_size = cast("dict[str, Any]", images)
        sizes = [by_size.get(size) for size in SIZES]
        candidates = [size[0] for size in sizes if isinstance(size, list) and size]
    elif isinstance(images, list) and images and isinstance(images[0], dict):
        first = cast("dict[str, Any]", images[0])
        candidates = [first.get(size) for size in SIZES]
    else:
        candidates = [found.get(name) for name in ("imageURLHighRes", "imageURL", "image", "imUrl")]
        candidates = [one[0] if isinstance(one, list) and one else one for one in candidates]
    pictures = (PictureRef.parse(one) for one in candidates if isinstance(one, str))
    return next((picture for picture in pictures if picture and picture.is_web_url), None)


def paths_of(found: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Read the category paths of an item, cleaned and without duplicates."""
    value = found.get("categories") or found.get("category") or []
    if isinstance(value, str):
        try:
            value = list_in(value) if begins_like_list(value) else [value]
        except ValueError:
            return ()
    nested: list[Any] = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    return category_paths(nested)


def _first(found: Mapping[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _header(row: list[str]) -> dict[str, int] | None:
    """Find the columns by name; None when the row is no header."""
    lower = [name.strip().lower() for name in row]
    found = {name: [lower.index(one) for one in ones if one in lower][:1] for name, ones in COLUMN_NAMES.items()}
    return {name: column[0] for name, column in found.items() if column} if all(found.values()) else None


def _item_first(path: Path, rows: list[list[str]]) -> bool:
    """Detect whether the first column holds the items: more of its values look like Amazon's item numbers."""
    first, second = (sum(bool(ASIN.fullmatch(row[column])) for row in rows if len(row) > 1) for column in (0, 1))
    if first == second:
        raise DatasetError(
            f"{path}: cannot tell the item column from rows like {','.join(rows[0])!r}; "
            "set --columns item,user or --columns user,item"
        )
    return first > second
