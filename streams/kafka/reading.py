"""Lets every consumer of this process go on behind what it cannot read, and inflate no batch above a limit.

aiokafka raises for a checksum that is wrong, an unknown codec, a header name that is not UTF-8, ..., and again each time it
comes back to that offset. Here an `UnreadableRecord` takes the place of what cannot be read. Healthy batches still go to
aiokafka's own parser; a compressed one is inflated before that, with the bound.
"""

import logging
import struct
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from typing_extensions import override

from streams.exceptions import MessageError
from streams.kafka.batches import (
    MAGIC,
    Unreadable,
    batch_at,
    behind_damaged,
    check_legacy,
    records_of,
    uncompressed,
)
from streams.kafka.records import Record, UnreadableRecord

logger = logging.getLogger(__name__)

# Batches above this are parsed by `records_of`, which bounds the headers of a record: an empty header has two bytes, and takes
# 70 once aiokafka has parsed it. A topic accepts this much by default, so only batches that inflate well are larger.
LARGE = 1024**2  # bytes

# What is inflated of one response, apart from the batch that exceeds it. The rest is fetched again: a megabyte can inflate to many
# batches of the limit, and all of them would be in memory at once.
MAX_INFLATED = 16 * 1024**2  # bytes

# What aiokafka's parsers raise on bytes that are wrong. AssertionError: compression within compression in formats 0 and 1.
PARSE_ERRORS = (
    KafkaError,
    ValueError,
    IndexError,
    OverflowError,
    MemoryError,
    SystemError,
    struct.error,
    AssertionError,
)


def read_past_damage(max_batch_bytes: int) -> None:
    """From now on, consumers of this process hand out an `UnreadableRecord` for what they cannot read.

    aiokafka has no setting for this: its fetcher takes both classes from its module.

    Args:
        max_batch_bytes: What a batch may inflate to, bytes.
    """
    module: Any = fetcher
    module.MemoryRecords = FetchedBatches
    module.PartitionRecords = partial(FetchedRecords, max_batch_bytes=max_batch_bytes)


def _without_traceback(error: Exception) -> MessageError:
    """The same problem, without the frames that the error has gone through: they hold whole batches."""
    if isinstance(error, MessageError):
        return MessageError(error.reason, str(error))
    return MessageError("unreadable_batch", f"the batch cannot be parsed: {error}")


def _in_order(records: Iterable[Any], before: int, last: int) -> Iterator[Any]:
    """The same records. Raises ValueError at one whose offset is not above that of the record before it, or above `last`."""
    for record in records:
        offset = record.offset
        if not before < offset <= last:
            raise ValueError(f"the record states offset {offset}, outside of {before + 1} to {last}")
        before = offset
        yield record


class FetchedBatches:
    """The batches of one partition in a response, not parsed yet. Takes the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)

    def has_next(self) -> bool:
        """Whether there is anything: brokers send a whole batch or nothing, so that what is not whole is damaged."""
        return len(self.data) > 0

    def size_in_bytes(self) -> int:
        return len(self.data)


class FetchedRecords(fetcher.PartitionRecords):
    """The records of one partition in a response, each batch inflated when its turn comes.

    `next_fetch_offset` is the position behind the last record that was handed out.
    """

    def __init__(self, *args: Any, max_batch_bytes: int, **kwargs: Any) -> None:
        """Make an iterator, as aiokafka does. `max_batch_bytes`: what a batch may inflate to, bytes."""
        self._max_batch_bytes = max_batch_bytes
        self._inflated = 0  # bytes so far
        super().__init__(*args, **kwargs)

    @override
    def _unpack_records(self) -> Generator[Record]:
        data: memoryview = self._records.data
        start = 0
        while start < len(data) and self._inflated <= MAX_INFLATED:
            found, problem = data[start:], None
            batch: Any = None
            skipped = False
            try:
                whole = batch_at(data, start)
                if whole is None:
                    return  # the broker cuts a response at its limit
                found = whole
                batch = self._checked(found)
                skipped = self._skipped(batch)
            except (MessageError, *PARSE_ERRORS) as error:
                problem = _without_traceback(error)
            if problem is not None:
                end, start = behind_damaged(data, start, self.next_fetch_offset)
                if end == self.next_fetch_offset:
                    continue  # its offsets were read, and it claims more
                # Not even its header can be relied on. The next response starts behind it, with the list of the
                # transactions that are aborted there: the end of one may have been in this batch.
                yield from self._unreadable(self.next_fetch_offset, end - 1, bytes(found), problem)
                return
            start += len(found)
            if not skipped:
                yield from (self._records_in if found[MAGIC] == 2 else self._legacy_records_in)(batch, found)
            # The last record may have been removed by compaction.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)

    def _checked(self, found: memoryview) -> Any:
        """aiokafka's batch of these bytes. Raises MessageError if its checksum is wrong or its header makes no sense."""
        magic = found[MAGIC]
        batch: Any = DefaultRecordBatch(found) if magic == 2 else LegacyRecordBatch(found, magic)
        if self._check_crcs and not batch.validate_crc():
            raise MessageError("unreadable_batch", "the checksum of the batch is wrong")
        if magic == 2 and batch.next_offset <= batch.base_offset:
            raise MessageError("unreadable_batch", "the batch states that it ends before it starts")
        return batch

    def _skipped(self, batch: Any) -> bool:
        """Whether a batch has no events: it belongs to an aborted transaction, or ends one."""
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return batch.is_control_batch

    def _records_in(self, batch: Any, found: memoryview) -> Iterator[Record]:
        """The records of a batch in format 2 whose checksum is right, from the position on."""
        number, before, last = 0, batch.base_offset - 1, batch.next_offset - 1
        plain, problem = found, None
        try:
            plain = uncompressed(found, self._max_batch_bytes)
        except MessageError as error:
            problem = _without_traceback(error)
        if problem is not None:
            yield from self._unreadable(before + 1, last, bytes(found), problem)
            return
        if plain is not found:
            self._inflated += len(plain)
            batch = DefaultRecordBatch(plain)
        if len(plain) <= LARGE:
            try:
                for record in _in_order(batch, before, last):
                    number, before = number + 1, record.offset
                    yield from self._handed_out(record)
            except PARSE_ERRORS as error:
                logger.debug("%s/%d: aiokafka cannot parse the batch at offset %d: %s", *self._tp, before + 1, error)
            else:
                return
        for record in records_of(plain, skip=number, after=before, position=self.next_fetch_offset):
            if isinstance(record, Unreadable):
                yield from self._unreadable(*record)
            else:
                yield from self._handed_out(record)

    def _legacy_records_in(self, batch: Any, found: memoryview) -> Iterator[Record]:
        """The same for formats 0 and 1: one message, or all that are compressed within one."""
        before, last = -1, batch.next_offset - 1
        self._inflated += len(found)
        try:
            self._inflated += check_legacy(found, self._max_batch_bytes)
            for record in _in_order(batch, before, last):
                before = record.offset
                yield from self._handed_out(record)
        except (MessageError, *PARSE_ERRORS) as error:
            problem = _without_traceback(error)
        else:
            return
        yield from self._unreadable(before + 1, last, bytes(found), problem)

    def _handed_out(self, record: Any) -> Iterator[Record]:
        """The record, if it is at or behind the position. Only the first batch of a response has others."""
        if record.offset >= self.next_fetch_offset:
            self.next_fetch_offset = record.offset + 1
            yield self._consumer_record(self._tp, record)

    def _unreadable(self, first: int, last: int, raw: bytes, error: MessageError) -> Iterator[UnreadableRecord]:
        """One record in place of what cannot be read, as far as it is at or behind the position."""
        first = max(first, self.next_fetch_offset)
        if first > last:  # all offsets of the batch were read, and something follows that has none
            logger.warning("%s/%d: passed over %d bytes before offset %d: %s", *self._tp, len(raw), first, error)
            return
        self.next_fetch_offset = last + 1
        yield UnreadableRecord(
            topic=self._tp.topic,
            partition=self._tp.partition,
            offset=last,
            timestamp=-1,
            timestamp_type=0,
            key=None,
            value=raw,
            checksum=None,
            serialized_key_size=-1,
            serialized_value_size=len(raw),
            headers=(),
            first_offset=first,
            reason=error.reason,
            problem=str(error),
        )
