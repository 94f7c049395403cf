"""The features of pictures on the topic `picture-features`: reads them, and sends those that are made here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec
from aiokafka.errors import KafkaError

from model.quantization import HEADER_BYTES, is_finite
from streams.exceptions import TopicsError
from streams.features.records import Features, decode_features, encode_features, features_key, parsed_key
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.kafka.producing import make_producer
from streams.kafka.records import UnreadableRecord
from streams.settings import Settings

Opened = Callable[[int], Callable[[int], object]]
"""Told the number of records of a topic; returns a function that is told how many were read."""


@dataclass
class SharedFeatures:
    """What the topic has.

    Attributes:
        rows: by URL, of the wanted pictures.
        unfit: number of wanted pictures whose features are damaged or of another size.
        topic: whether there is such a topic.
    """

    rows: dict[str, bytes] = field(default_factory=dict[str, bytes])
    unfit: int = 0
    topic: bool = True


async def read_shared(
    settings: Settings, version: str, size: int, wanted: Collection[str], opened: Opened
) -> SharedFeatures:
    """Read the features of the wanted URLs from the topic, up to its end now.

    Args:
        settings: name the broker and the topic.
        version: of the backbone.
        size: number of features of a picture.
        wanted: the URLs.
        opened: shows the progress.

    Raises:
        BrokerUnreachable: the broker does not answer.
        TopicsError: the topic may not be read.
    """
    reader = BoundedTopicReader(settings, settings.features_topic, "TASTESTREAM_FEATURES_TOPIC")
    values: dict[str, bytes] = {}
    try:
        async with reader as topic:
            advance = opened(len(topic))
            topic.seek_to_start()
            reading = list(topic.ends)
            while reading := [tp for tp in reading if not await topic.at_end(tp)]:
                for records in (await topic.next_records(reading)).values():
                    for one in records:
                        if not isinstance(one, UnreadableRecord):
                            take_value(values, version, wanted, one.key, one.value)
                    advance(len(records))
    except TopicsError:
        if settings.features_topic in reader.topics:
            raise
        return SharedFeatures(topic=False)
    rows = {url: row for url, value in values.items() if (row := features_in(value, size)) is not None}
    return SharedFeatures(rows, len(values) - len(rows))


def take_value(
    values: dict[str, bytes], version: str, wanted: Collection[str], key: bytes | None, value: bytes | None
) -> None:
    """Keep the newest value of a wanted picture. A picture without a value is forgotten."""
    made_by, url = parsed_key(key or b"") or ("", "")
    if made_by != version or url not in wanted:
        return
    if value is None:
        values.pop(url, None)
    else:
        values[url] = value


def features_in(value: bytes, size: int) -> bytes | None:
    """The row of features in a value; None for one that is damaged, of another size or not finite."""
    try:
        row = decode_features(value).row
    except msgspec.DecodeError:
        return None
    return row if len(row) == HEADER_BYTES + size and is_finite(row) else None


async def share(settings: Settings, version: str, rows: Mapping[str, bytes], now: int) -> None:
    """Send the features of pictures to the topic, so that no worker computes them again.

    Args:
        settings: name the broker and the topic.
        version: of the backbone.
        rows: features by URL.
        now: the time now, milliseconds since the epoch.

    Raises:
        TopicsError: they cannot be written.
    """
    try:
        async with make_producer(settings) as producer:
            sent = [
                await producer.send(
                    settings.features_topic, encode_features(Features(now, row)), features_key(version, url)
                )
                for url, row in rows.items()
            ]
            for one in sent:
                await one
    except KafkaError as error:
        raise TopicsError(f"topic {settings.features_topic} could not be written: {error!r}") from error
