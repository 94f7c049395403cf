"""Which records of `picture-features` are to be forgotten. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec

from streams.features.records import decode_features, parsed_key
from streams.kafka.records import Record


@dataclass(frozen=True)
class Choice:
    """What is to be forgotten: the pictures at some URLs, or the features that were made before a time."""

    urls: frozenset[str] = frozenset()
    before: int | None = None  # milliseconds since the epoch


@dataclass
class Found:
    """What the topic has of a choice.

    Attributes:
        records: number of records with features, of all pictures, as far as the topic was read.
        keys: for each partition, the keys that have features that are to be forgotten, with the URL of the picture.
    """

    records: int = 0
    keys: dict[int, dict[bytes, str]] = field(default_factory=dict[int, dict[bytes, str]])

    @property
    def urls(self) -> set[str]:
        """The pictures that have features that are to be forgotten."""
        return {url for keys in self.keys.values() for url in keys.values()}

    @property
    def count(self) -> int:
        """Number of tombstones to write."""
        return sum(map(len, self.keys.values()))

    def add(self, records: Iterable[Record], choice: Choice) -> None:
        """Take the next records of the topic, in order within each partition. A key is judged by its last record."""
        for record in records:
            key: bytes = record.key or b""
            parsed = parsed_key(key)
            if parsed is None:
                continue
            keys = self.keys.setdefault(record.partition, {})
            keys.pop(key, None)
            if record.value is None:
                continue
            self.records += 1
            if parsed[1] in choice.urls or (choice.before is not None and _made_before(record.value, choice.before)):
                keys[key] = parsed[1]


def _made_before(value: bytes, time: int) -> bool:
    try:
        return decode_features(value).made_at < time
    except (msgspec.DecodeError, RecursionError):
        return False  # no worker uses it


def missing(urls: Collection[str], found: Found) -> list[str]:
    """The URLs of which the topic has nothing, in order."""
    known = found.urls
    return [url for url in dict.fromkeys(urls) if url not in known]
