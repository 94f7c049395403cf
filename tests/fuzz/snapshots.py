"""Records of the trend. An input is the length of the key (1 byte), the key, and the value."""

import msgspec
import numpy as np

from streams.trend.snapshots import (
    DAYS,
    MAX_COUNT,
    SnapshotError,
    decode_snapshot,
    encode_snapshot,
    partition_in,
    partition_key,
    snapshot_of,
    sum_of,
)
from streams.trend.trend import DAY

PARTITIONS = 8


def record(key: bytes, value: bytes) -> bytes:
    """A record as one input."""
    return bytes([len(key)]) + key + value


def seeds() -> list[bytes]:
    """Snapshots, and some that are broken at their limits."""
    random = np.random.default_rng(1)
    table = {day: random.integers(0, 10**6, 4) for day in range(100)}
    whole = encode_snapshot(snapshot_of("0123456789ab", 4, table))
    broken = [
        {"labels": "v", "categories": 2, "rows": {5: [1]}},
        {"labels": "v", "categories": 1, "rows": {5: [MAX_COUNT]}},
        {"labels": "v", "categories": 1, "rows": {5: [MAX_COUNT + 1]}},
        {"labels": "v", "categories": 1, "rows": {day: [1] for day in range(DAYS + 2)}},
    ]
    values = [whole, encode_snapshot(snapshot_of("v", 3, {})), *map(msgspec.msgpack.encode, broken)]
    return [*(record(b"3", value) for value in values), record(b"8", whole), record(b"03", whole), record(b"", whole)]


def check(data: bytes) -> str:
    """Read a record; if it can be used, write it again and sum it up."""
    size = data[0] if data else 0
    key, value = data[1 : 1 + size], data[1 + size :]
    try:
        partition = partition_in(key, PARTITIONS)
        snapshot = decode_snapshot(value)
    except SnapshotError as error:
        return str(error).partition(":")[0]
    assert partition_key(partition) == key
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    if snapshot.categories * (len(snapshot.rows) + 1) < 10**6:
        snapshots = dict.fromkeys(range(PARTITIONS), snapshot)
        trend = sum_of(snapshots, version=1, labels=snapshot.labels, categories=snapshot.categories)
        assert (trend.at(max(snapshot.rows, default=0) * DAY + 1) >= 0).all()
    return "accepted"
