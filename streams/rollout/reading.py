"""Fills the ledger: what the rows of the bags hold, and which of their pictures have features on the topic.

The topics are read outside of any consumer group, and the bags' changelog as their recovery reads it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import TopicPartition

from streams.features.records import decode_features, parsed_key
from streams.kafka.bounded_topic import BoundedTopicReader
from streams.profile.quarantine import usable_rows
from streams.profile.rows import Changes, decode_slot, is_header
from streams.rollout.held import Share, encode_held, held
from streams.rollout.ledger import Ledger, Row, batched
from streams.rollout.progress import Work
from streams.settings import Settings

logger = logging.getLogger(__name__)

Ends = Mapping[TopicPartition, int]  # offsets
Codes = Callable[[Sequence[bytes]], Sequence[bytes | None]]


def changes_of(rows: Iterable[tuple[bytes, bytes | None]], partition: int, *, served: str, following: str) -> Changes:
    """What changelog records of a partition change in the ledger. Pure. `held` describes `served` and `following`.

    Raises:
        UnknownRowFormat: another version of tastestream wrote a row.
    """
    changes: Changes = {}
    for key, value in rows:
        if value is None or is_header(key):
            changes[key] = value
            continue
        found = held(decode_slot(key, value), partition, served=served, following=following)
        changes[key] = None if found is None else encode_held(found)
    return changes


async def read_bags(
    settings: Settings,
    ledger: Ledger,
    work: Work | None,
    *,
    served: str,
    following: str,
    since: Ends | None = None,
) -> Ends:
    """Read the changelog of the bags into the ledger.

    Args:
        settings: where the topic is.
        ledger: gets the rows.
        work: shows how far it is, if it is a step of its own.
        served: as `held` describes it.
        following: as `held` describes it.
        since: the end at the last reading; None to begin at the start.

    Returns:
        The end of each partition.

    Raises:
        TastestreamError: the broker or the topic does not permit it, or another version of tastestream wrote a row.
    """
    name = settings.bags_changelog
    async with BoundedTopicReader(settings, name, "TASTESTREAM_NAMESPACE", isolation="read_uncommitted") as topic:
        if work is not None:
            work.begin("reading the bags", len(topic))
        async for partition, records in topic.everything(since):
            rows = usable_rows(partition, records)
            ledger.write(changes_of(rows, partition, served=served, following=following))
            if work is not None:
                work.advance(len(records))
        return topic.ends


@dataclass
class Survey:
    """What the rows of the bags hold."""

    shares: dict[int, Share] = field(default_factory=dict[int, Share])  # by partition
    chosen: int = 0  # rows whose code is wanted, within the limit


def surveyed(ledger: Ledger, partitions: Iterable[TopicPartition], *, limit: int | None) -> Survey:
    """Count the rows, and note the pictures whose codes are wanted: those of rows that lack one, or have an adapted one.

    Args:
        ledger: filled by `read_bags`.
        partitions: of the changelog.
        limit: number of rows to look for codes of; None for all.
    """
    survey = Survey({tp.partition: Share() for tp in sorted(partitions)})
    for rows in batched(ledger.rows()):
        for row in rows:
            survey.shares[row.held.partition].states[row.held.state] += 1
        wanted = [row for row in rows if improvable(row)]
        if limit is not None:
            del wanted[limit - survey.chosen :]
        ledger.want(row.held.image_url for row in wanted)
        survey.chosen += len(wanted)
    return survey


def improvable(row: Row) -> bool:
    """Whether a code from the features of the picture is better than what the row has."""
    return row.held.state != "native"


async def read_features(
    settings: Settings, ledger: Ledger, work: Work, *, version: str, fits: Callable[[bytes], bool], codes: Codes | None
) -> None:
    """Put the codes of wanted pictures that have features on the topic into the ledger.

    Args:
        settings: where the topic is.
        ledger: knows which are wanted.
        work: shows how far it is.
        version: of the features.
        fits: whether bytes can be such features.
        codes: makes codes from features. None: where only their number counts, nothing stands for a code.

    Raises:
        TastestreamError: the broker or the topic does not permit it.
    """
    unusable = 0
    async with BoundedTopicReader(settings, settings.features_topic, "TASTESTREAM_FEATURES_TOPIC") as topic:
        work.begin("reading the features", len(topic))
        async for _, records in topic.everything():
            found = wanted_features(records, version, ledger.wanted)
            usable = {url: row for url, row in found.items() if row is not None and fits(row)}
            unusable += sum(row is not None for row in found.values()) - len(usable)
            rows = list(usable.values())
            made = [b""] * len(rows) if codes is None else codes(rows) if rows else ()
            ledger.put_codes([(url, None) for url, row in found.items() if row is None])
            ledger.put_codes((url, code) for url, code in zip(usable, made, strict=True) if code is not None)
            work.advance(len(records))
    if unusable:
        logger.warning(
            "passed over %d of the records of %s, which are no features of the backbone %s",
            unusable, settings.features_topic, version,
        )  # fmt: skip


def wanted_features(records: Iterable[Any], version: str, wanted: Callable[[str], bool]) -> dict[str, bytes | None]:
    """The newest features in these records by URL: b"" where they cannot be read, None where they are to be forgotten. Pure."""
    found: dict[str, bytes | None] = {}
    for record in records:
        key = parsed_key(record.key) if record.key else None
        if key is None or key[0] != version or not wanted(key[1]):
            continue
        try:
            found[key[1]] = None if record.value is None else decode_features(record.value).row
        except msgspec.MsgspecError:
            found[key[1]] = b""
    return found
