"""Reads what one answer to a fetch request holds: a sample of records, or the time of one. Pure.

A response ends in the middle of a batch. What cannot be read is passed over: a sample need not be whole, and the workers make
dead letters of such records.
"""

from collections.abc import Iterator

from streams.exceptions import MessageError
from streams.kafka.batches import CONTROL, LOG_APPEND_TIME, ParsedRecord, batch_at, header_of, records_of, uncompressed

INFLATED = 1024**2  # bytes that a compressed batch may inflate to


def batches_of(data: bytes, position: int) -> Iterator[memoryview]:
    """The whole batches in format 2 that may hold records at or behind an offset. Those that end a transaction hold none."""
    view, start = memoryview(data), 0
    try:
        while (batch := batch_at(view, start)) is not None:
            header = header_of(batch)
            if header.magic == 2 and header.last_offset >= position:
                yield batch
            start += len(batch)
    except MessageError:
        return


def records_in(data: bytes, position: int) -> tuple[list[ParsedRecord], int]:
    """The records at or behind an offset, and the offset to go on at, which is the same if there is no whole batch."""
    found: list[ParsedRecord] = []
    for batch in batches_of(data, position):
        header = header_of(batch)
        if not header.attributes & CONTROL:
            try:
                plain = uncompressed(batch, INFLATED)
            except MessageError:  # too large, or damaged
                pass
            else:
                found += [one for one in records_of(plain, position=position) if isinstance(one, ParsedRecord)]
        position = header.last_offset + 1
    return found, position


def first_time(data: bytes, position: int) -> int | None:
    """When the first record at or behind an offset was sent, milliseconds since the epoch.

    If its batch is large or cannot be inflated, it is the time of the first record of that batch, which was sent no later.

    Returns:
        None if there is no such record in the data, or if it has no time.
    """
    for batch in batches_of(data, position):
        if not header_of(batch).attributes & CONTROL and (time := _time_in(batch, position)) is not None:
            return time if time >= 0 else None
    return None


def _time_in(batch: memoryview, position: int) -> int | None:
    """The time of the first record of a batch at or behind a position; None if there is none."""
    header = header_of(batch)
    if header.attributes & LOG_APPEND_TIME:
        return header.max_timestamp
    if position <= header.base_offset:
        return header.first_timestamp
    try:
        plain = uncompressed(batch, INFLATED)
    except MessageError:
        return header.first_timestamp
    return next((one.timestamp for one in records_of(plain, position=position) if isinstance(one, ParsedRecord)), None)
