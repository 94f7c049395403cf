"""From features to the codes of items: keeps what follows from `picture-features`, and makes codes of it in batches.

It stands between the follower of the topic (`streams.features.follower`), which calls `write` in a thread of its own, and the
catalogue. Features stay on disk whether an item needs them or not, because the item may come later.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time

import msgspec

from model.quantization import is_finite
from streams.embed.disk_cache import DiskCache
from streams.embed.networks import Coder
from streams.features.records import decode_features, parsed_key
from streams.serve.catalogue.catalogue import ItemCatalogue

BATCH = 256  # pictures in one call of an item network


class ItemFeatures:
    """A `streams.features.follower.Cache` that tells the catalogue the codes of what it is given."""

    def __init__(self, folder: Path, coder: Coder, row_bytes: int, max_bytes: int, catalogue: ItemCatalogue) -> None:
        """Open or create the disk cache in a folder.

        Args:
            folder: where it is.
            coder: makes codes of features.
            row_bytes: length of a row of features.
            max_bytes: bytes on disk.
            catalogue: is told the codes.

        Raises:
            StateError: it cannot be created.
        """
        # Features do not expire here: an item with the code of last month's picture is better than none.
        self._disk = DiskCache(folder, row_bytes={coder.features: row_bytes}, max_bytes=max_bytes, max_age=math.inf)
        self.max_age, self.max_bytes = self._disk.max_age, self._disk.max_bytes
        self._coder = coder
        self._catalogue = catalogue
        self._lock = threading.Lock()  # or a picture that is forgotten could get its code back from a look before that

    @property
    def identity(self) -> str:
        """As `DiskCache.identity`."""
        return self._disk.identity

    def write(self, changes: Mapping[bytes, bytes | None]) -> bool:
        """Keep features, and set the codes of their pictures; a null value forgets both. Returns False if it failed."""
        with self._lock:
            if not self._disk.write(changes):
                return False
            rows: dict[str, bytes] = {}
            for key, value in changes.items():
                parsed = parsed_key(key)
                if parsed is not None and parsed[0] == self._coder.features:
                    rows[parsed[1]] = b"" if value is None else _row(value)
            self._catalogue.code(self._codes(rows))
            return True

    def fill(self, urls: Sequence[str]) -> None:
        """Set the codes of pictures whose features are here already."""
        with self._lock:
            now = time()
            rows = {url: self._disk.get(self._coder.features, url, now=now) or b"" for url in urls}
            self._catalogue.code(self._codes({url: row for url, row in rows.items() if row}))

    def close(self) -> None:
        """Close the disk cache."""
        with self._lock:
            self._disk.close()

    def _codes(self, rows: Mapping[str, bytes]) -> dict[str, bytes]:
        """The codes of rows of features, by URL; b"" for an empty row, and for one of which the network makes no numbers."""
        codes = dict.fromkeys(rows, b"")
        urls = [url for url, row in rows.items() if row]
        for start in range(0, len(urls), BATCH):
            some = urls[start : start + BATCH]
            given = [rows[url] for url in some]
            made = given if self._coder.run is None else self._coder.run(given)
            codes |= {url: code if is_finite(code) else b"" for url, code in zip(some, made, strict=True)}
        return codes


def _row(value: bytes) -> bytes:
    try:
        return decode_features(value).row
    except msgspec.DecodeError:
        return b""
