"""Which records of `picture-features` a worker keeps. The clock is an argument."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from model.quantization import is_finite
from streams.features.records import decode_features, parsed_key
from streams.kafka.records import Record, UnreadableRecord

MAX_OWN = (
    10_000  # features that were published and not followed yet; of more, the oldest are written to disk a second time
)
MAX_AHEAD = 300_000  # milliseconds that features may be made ahead of the clock: clocks differ


class Own:
    """What this process has published and not read back yet: it is in the cache already. Safe to call from two threads."""

    def __init__(self) -> None:
        self._made_at: OrderedDict[bytes, int] = OrderedDict()  # by key

    def add(self, key: bytes, made_at: int) -> None:
        """Note what is about to be published."""
        self._made_at[key] = made_at
        while len(self._made_at) > MAX_OWN:
            self._made_at.popitem(last=False)

    def drop(self, key: bytes) -> None:
        """Forget a key: it is no longer in the cache."""
        self._made_at.pop(key, None)

    def take(self, key: bytes, made_at: int) -> bool:
        """Whether it was published by this process; the answer is yes once."""
        if self._made_at.get(key) != made_at:
            return False
        self._made_at.pop(key, None)
        return True


@dataclass(frozen=True)
class Rules:
    """What is kept."""

    row_bytes: Mapping[str, int]  # the versions that are kept, and the length of a row of each
    max_age: float  # seconds
    own: Own


@dataclass
class Taken:
    """What is to be done for some records."""

    changes: dict[bytes, bytes | None] = field(default_factory=dict[bytes, bytes | None])  # the last one for each key
    forgotten: list[str] = field(default_factory=list[str])  # URLs
    counts: Counter[str] = field(default_factory=Counter[str])  # records, by what became of them
    problem: str = ""  # of the first record that cannot be used


def take(records: Iterable[Record], rules: Rules, starts: Mapping[str, Mapping[int, int]], now: float) -> Taken:
    """Sort records of the topic.

    Args:
        records: in order within each partition.
        rules: what is kept.
        starts: the offsets from which on the records of a version are new, by version and partition. 0 where there is none.
        now: seconds since the epoch.
    """
    taken = Taken()
    oldest, newest = (now - rules.max_age) * 1000, now * 1000 + MAX_AHEAD
    for record in records:
        key: bytes = record.key or b""
        parsed = parsed_key(key)
        if parsed is None:
            _refuse(
                taken, record, record.problem if isinstance(record, UnreadableRecord) else "its key names no picture"
            )
            continue
        version, url = parsed
        length = rules.row_bytes.get(version)
        if length is None or record.offset < starts.get(version, {}).get(record.partition, 0):
            taken.counts["skipped"] += 1
            continue
        if record.value is None:
            rules.own.drop(key)
            taken.changes[key] = None
            taken.forgotten.append(url)
            taken.counts["forgotten"] += 1
            continue
        try:
            features = decode_features(record.value)
        except (msgspec.DecodeError, RecursionError) as error:
            _refuse(taken, record, f"its value is not features: {error}")
            continue
        if len(features.row) != length:
            _refuse(taken, record, f"expected features of {length} bytes, found {len(features.row)}")
        elif not is_finite(features.row):
            _refuse(taken, record, "its features are not finite, or too large")
        elif features.made_at > newest:
            _refuse(taken, record, "its features were made in the future")
        elif features.made_at < oldest or rules.own.take(key, features.made_at):
            taken.counts["skipped"] += 1
        else:
            taken.changes[key] = record.value
            taken.counts["kept"] += 1
    return taken


def _refuse(taken: Taken, record: Record, problem: str) -> None:
    taken.counts["refused"] += 1
    taken.problem = taken.problem or f"{record.topic}/{record.partition} at offset {record.offset}: {problem}"
