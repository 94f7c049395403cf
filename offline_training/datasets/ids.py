"""The ids of users and items: their text whatever the type of their column, and which id of one table means which of another. Pure.

The files of one data set write the same id in several ways: as text with leading zeros, as an integer without them, as a float where
pandas met a gap in the column, or in another Unicode normalization, such as the names of files from macOS.
"""

import re
from collections import Counter
from collections.abc import Collection
from decimal import Decimal
from operator import index
from typing import Any
from unicodedata import normalize
from uuid import UUID

from offline_training.datasets.records import NOT_DECODED, DatasetError, Dropped, printed, unpaired
from streams.times import shown

EXACT = 2**53  # up to here every integer is a float of its own; of two larger ones, both may be the same float
EXACT_SINGLE = 2**24  # the same for floats of 32 bits
LONGEST = 256  # bits of an integer
MISSING = frozenset({"nan", "NaN", "NaT", "<NA>", "None", "null", "NULL"})
"""What pandas, Python and SQL write for a value that is not there."""
FROM_FLOAT = re.compile(r"([+-]?[0-9]+)\.0")
ROUNDED = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,3}")  # by a spreadsheet, or a large float


class Single(float):
    """A float of a column with 32 bits per number."""


class UnreadableId(DatasetError):
    """A value is no id. The message shows it.

    Attributes:
        reason: `inexact_id` if digits of it are lost, else `unreadable_id`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def id_text(value: Any) -> str:
    """The text of an id, without white space around it; "" for a missing one.

    Raises:
        UnreadableId: it is no id, or not exactly the one that was meant.
    """
    match value:
        case None:
            return ""
        case str() | bytes():
            return _of_text(value if isinstance(value, str) else value.decode(errors="surrogateescape"))
        case UUID():
            return str(value)
        case float() | Decimal():
            return _of_number(value)
        case _:
            return _of_integer(value)


def _of_integer(value: Any) -> str:
    try:
        number = index(value)  # also an integer of numpy
    except TypeError:
        raise _no_id(value) from None
    if isinstance(value, bool) or number.bit_length() > LONGEST:
        raise _no_id(value)
    return str(number)


def _of_text(text: str) -> str:
    text = text.strip()
    if text in MISSING:
        return ""
    if unpaired(text):
        raise UnreadableId("unreadable_id", f"{printed(text[:60])} {NOT_DECODED}")
    whole = FROM_FLOAT.fullmatch(text)
    if ROUNDED.fullmatch(text) or (whole and abs(Decimal(whole[1])) > EXACT):
        raise _inexact(text)
    return whole[1] if whole else text


def _of_number(value: float | Decimal) -> str:
    if value != value:  # noqa: PLR0124  (NaN)
        return ""
    number = Decimal(value)
    if not number.is_finite() or number != number.to_integral_value():
        raise _no_id(value)
    if isinstance(value, float) and abs(number) > (EXACT_SINGLE if isinstance(value, Single) else EXACT):
        raise _inexact(value)
    return str(int(number))


def _no_id(value: Any) -> UnreadableId:
    return UnreadableId("unreadable_id", f"{shown(value)} is no id; expected text or an integer")


def _inexact(value: Any) -> UnreadableId:
    return UnreadableId("inexact_id", f"{shown(value)} has lost digits; write the column as text or as integers")


def event_ids(user: Any, item: Any, dropped: Dropped) -> tuple[str, str] | None:
    """The user and the item of an event. None when it is left out; `dropped` then counts the reason."""
    try:
        found = id_text(user), id_text(item)
    except UnreadableId as error:
        dropped.add(f"event_with_{error.reason}", error)
        return None
    if all(found):
        return found
    dropped.add("event_without_user_or_item", f"user {shown(user)}, item {shown(item)}")
    return None


def item_id(value: Any, row: object, dropped: Dropped) -> str:
    """The id of an item. "" when it is left out; `dropped` then counts the reason. row: an example to show."""
    try:
        found = id_text(value)
    except UnreadableId as error:
        dropped.add(f"item_with_{error.reason}", error)
        return ""
    if not found:
        dropped.add("item_without_id", str(row)[:100])
    return found


def matching_key(name: str) -> str:
    """What ids that may mean the same item have in common: digits without leading zeros, other text in its composed form (NFC)."""
    if name.isascii():
        return (name.lstrip("0") or "0") if name.isdigit() else name
    return normalize("NFC", name)


def same_ids(names: Collection[str], table: Collection[str]) -> dict[str, str]:
    """Find the ids of `table` that `names` mean. Names that mean none are missing.

    An id means itself. `7` also means `007`, unless `names` or `table` has several ids that differ only in this way: then they are
    different items, and only equal text counts.

    Args:
        names: distinct ids.
        table: distinct ids, in the spelling to return. A set or a mapping.
    """
    spelled: dict[str, str | None] = {}
    for one in table:
        key = matching_key(one)
        spelled[key] = None if key in spelled else one
    alike = Counter(map(matching_key, names))
    means: dict[str, str] = {}
    for name in names:
        key = matching_key(name)
        found = name if name in table else spelled.get(key) if alike[key] == 1 else None
        if found is not None:
            means[name] = found
    return means
