"""The data set of DVBPR (Kang et al., ICDM 2017), such as `AmazonFashion6ImgPartitioned.npy`. Savchenko and Demochkin's code reads it.

The .npy file holds an array that Python 2 pickled: [user_train, user_validation, user_test, items, usernum, itemnum].
user_* map a user number to a list of {b'reviewerID', b'asin', b'productid'}, some with a time. items map a product number
to {b'asin', b'imgs' (the bytes of a JPEG), b'categories'}. Reviews without a time are placed one second apart, in their order, from
the earliest time that an event may have.

Unpickling runs no code from the file (`pickled_arrays`).
"""

import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from offline_training.datasets.arrays import ArrayHeader, memory_limit
from offline_training.datasets.formats.pickled_arrays import ArrayUnpickler
from offline_training.datasets.ids import event_ids, item_id
from offline_training.datasets.picture_ref import PictureRef
from offline_training.datasets.records import (
    DatasetError,
    DatasetEvent,
    DatasetItem,
    Dropped,
    category_paths,
    event_time,
)
from streams.times import EARLIEST

SECOND = 1000  # milliseconds
MOST_PARTS = 64
MEMORY, MEMORY_PER_BYTE = 1024**3, 64  # bytes that unpickling may take: in all, and for each byte of the file
PARTS = ("user_train", "user_validation", "user_test", "items")


def load(path: Path) -> list[Any]:
    """Read the six parts. Strings stay `bytes` or `str`, as they were pickled.

    Raises:
        DatasetError: the file is missing, or it is not such an array.
    """
    try:
        with path.open("rb") as file:
            header = ArrayHeader(file)
            if header.dtype != np.dtype(object) or header.size > MOST_PARTS * header.dtype.itemsize:
                raise DatasetError(f"{path}: expected an array of {len(PARTS) + 2} objects, found {header}")
            with memory_limit(MEMORY + MEMORY_PER_BYTE * path.stat().st_size):
                array = ArrayUnpickler(file, encoding="bytes").load()
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except MemoryError:
        raise DatasetError(
            f"{path}: expected DVBPR's array, found one that claims more memory than it has data for"
        ) from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise DatasetError(f"{path}: expected DVBPR's array, which cannot be unpickled: {error}") from error
    parts = list(cast("Sequence[Any]", array)) if isinstance(array, list | tuple) else []
    if len(parts) == len(PARTS) + 2 and isinstance(parts[3], list):
        parts[3] = dict(enumerate(parts[3]))  # a list instead of a dictionary
    if len(parts) < len(PARTS) or not all(isinstance(part, Mapping) for part in parts[: len(PARTS)]):
        raise DatasetError(f"{path}: expected the dictionaries {', '.join(PARTS)}, found {len(parts)} parts")
    return parts


@dataclass
class Dvbpr:
    """A `DatasetSource` of one array. Writes each picture to a JPEG file in `pictures`, named by a hash of its content."""

    path: Path
    pictures: Path

    def __post_init__(self) -> None:
        self._parts = load(self.path)

    @property
    def folders(self) -> Sequence[Path]:
        return (self.pictures,)

    def interactions(self, dropped: Dropped) -> Iterator[DatasetEvent]:
        found = self._histories()
        if not any(found.values()):
            raise DatasetError(f"{self.path}: expected reviews of users, found none")
        for user, histories in found.items():
            for number, review in enumerate(histories):
                ids = event_ids(
                    _text(review.get("reviewerID")) or user,
                    self._item_name(review.get("productid"), review.get("asin")),
                    dropped,
                )
                if ids is None:
                    continue
                name, item = ids
                time = review.get("unixReviewTime")
                if time is None:
                    dropped.note("event_without_time_placed_by_its_order", f"{name} {item}")
                    milliseconds = EARLIEST + number * SECOND
                else:
                    milliseconds = event_time(_text(time) or time, f"{name} {item}", dropped)
                if milliseconds is not None:
                    yield DatasetEvent(name, item, "purchase", milliseconds)

    def items(self, dropped: Dropped) -> Iterator[DatasetItem]:
        self.pictures.mkdir(parents=True, exist_ok=True)
        for number, raw in cast("Mapping[Any, Any]", self._parts[3]).items():
            found = _named(raw)
            item = item_id(_text(found.get("asin")) or number, found, dropped)
            if not item:
                continue
            data = found.get("imgs")
            picture = PictureRef(str(self._written(data))) if isinstance(data, bytes) and data else None
            yield DatasetItem(item, picture, _paths(found.get("categories")))

    def _written(self, data: bytes) -> Path:
        path = self.pictures / f"{hashlib.sha256(data).hexdigest()[:24]}.jpg"
        if not path.exists():
            path.write_bytes(data)
        return path

    def _histories(self) -> dict[str, list[dict[str, Any]]]:
        """The reviews of each user: training, then validation, then test, which is their order in time."""
        joined: dict[str, list[dict[str, Any]]] = {}
        for part in self._parts[:3]:
            for user, reviews in cast("Mapping[Any, Any]", part).items():
                joined.setdefault(str(user), []).extend(map(_named, reviews))
        return joined

    def _item_name(self, number: Any, asin: Any) -> Any:
        """The id of an item, by the review that names it; None when the review does not, or names an unknown number."""
        named = _text(asin)
        if named or not isinstance(number, int | str | bytes | np.integer):
            return named
        found = cast("Mapping[Any, Any]", self._parts[3]).get(number)
        return None if found is None else _text(_named(found).get("asin")) or number


def _named(raw: Any) -> dict[str, Any]:
    """Make the keys text, whichever Python wrote them."""
    return {_text(name): value for name, value in raw.items()} if isinstance(raw, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _paths(value: Any) -> tuple[tuple[str, ...], ...]:
    """Read several paths, one path, or one name."""
    if isinstance(value, str | bytes):
        value = [value]
    if not isinstance(value, list | tuple):
        return ()
    nested = cast("Sequence[Any]", value)
    paths = nested if nested and isinstance(nested[0], list | tuple) else [nested]
    return category_paths([_text(name) for name in path] for path in paths)
