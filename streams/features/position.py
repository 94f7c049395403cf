"""How far a worker has read `picture-features`, in a small file beside the cache that it fills.

The file is not in the cache, which drops its oldest entries. It says which topic and which cache it belongs to. For another one,
and for features of another version, reading starts at the beginning of the topic.
"""

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

logger = logging.getLogger(__name__)


class Position(Struct, frozen=True):
    """Where reading goes on.

    Attributes:
        topic_id: of the topic; "" if the broker has no ids.
        cache: what identifies the cache, and its size: a larger one has room for what was dropped.
        offsets: the next offset, by the version of the features and by partition.
    """

    topic_id: str = ""
    cache: str = ""
    offsets: dict[str, dict[int, int]] = {}

    def of(self, topic_id: str, cache: str, versions: list[str]) -> "Position":
        """This position for a topic, a cache and versions of features: without what belongs to others."""
        same = cache == self.cache and (topic_id == self.topic_id or not (topic_id and self.topic_id))
        return Position(
            topic_id, cache, {version: self.offsets.get(version, {}) if same else {} for version in versions}
        )

    def start(self, partition: int) -> int:
        """The offset at which reading of a partition starts: the least of all versions."""
        return min((offsets.get(partition, 0) for offsets in self.offsets.values()), default=0)

    def at(self, offsets: dict[int, int]) -> "Position":
        """This position after all partitions were read up to these offsets."""
        return Position(
            self.topic_id,
            self.cache,
            {
                version: {partition: max(end, known.get(partition, 0)) for partition, end in offsets.items()}
                for version, known in self.offsets.items()
            },
        )


_decoder = msgspec.json.Decoder(Position)


def read_position(path: Path) -> Position:
    """The position in a file; the beginning if there is none, or it cannot be read."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return Position()
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s cannot be read, so the features of pictures are read from the beginning: %s", path, error)
        return Position()


def write_position(path: Path, position: Position) -> None:
    """Write a position so that a reader finds this one or the one before. Raises OSError."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(position))
    part.replace(path)
