"""The latest snapshots of `category-trend` in a small file, so that a reader has a trend before a broker answers."""

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from streams.trend.snapshots import Snapshot

logger = logging.getLogger(__name__)


class KeptTrend(Struct, frozen=True):
    """What a reader of the topic knew.

    Attributes:
        topic_id: of the topic; "" if the broker has no ids.
        version: the offset of the last record.
        offsets: of the latest record of each partition of the bags.
        snapshots: the latest ones, by partition of the bags.
    """

    topic_id: str
    version: int
    offsets: dict[int, int]
    snapshots: dict[int, Snapshot]


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(KeptTrend)


def read_kept(path: Path) -> KeptTrend | None:
    """What a file has; None if there is none, or it cannot be read."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("%s cannot be read, so there is no trend until the topic was read: %s", path, error)
        return None


def write_kept(path: Path, kept: KeptTrend) -> None:
    """Write a file so that a reader finds this one or the one before. Raises OSError."""
    part = path.with_suffix(".part")
    part.write_bytes(_encode(kept))
    part.replace(path)
