"""Every consumer of the process goes on behind what it cannot read, in aiokafka's own fetcher."""

import ast
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import MessageError
from streams.kafka.reading import LARGE, MAX_INFLATED, FetchedBatches, FetchedRecords, read_past_damage
from streams.kafka.records import UnreadableRecord, value_of
from tests.streams.kafka.made import (
    ATTRIBUTES_AT,
    COUNT_AT,
    LAST_DELTA_AT,
    Made,
    batch,
    changed,
    record,
    with_checksum,
    with_records,
)

ROOT = Path(__file__).parents[3]
TP = TopicPartition("user-interactions", 3)
LIMIT = 4 * 1024**2


def fetched(
    data: bytes, position: int = 0, *, isolation: int = fetcher.READ_COMMITTED, aborted: Sequence[tuple[int, int]] = ()
) -> FetchedRecords:
    return FetchedRecords(
        TP, FetchedBatches(data), list(aborted), position, None, None, True, isolation, max_batch_bytes=LIMIT
    )


def last_of(made: bytes) -> int:
    return struct.unpack_from(">q", made)[0] + struct.unpack_from(">i", made, LAST_DELTA_AT)[0]


def read_all(log: Sequence[bytes], end: int, **options: Any) -> list[Any]:
    """Read a log as a consumer does: one response after the other, each from the position on."""
    found: list[Any] = []
    position = 0
    while position < end:
        data = b"".join(one for one in log if last_of(one) >= position)
        response = fetched(data, position, **options)
        found += response
        assert response.next_fetch_offset > position, "no progress"
        position = response.next_fetch_offset
    return found


def spans(records: Sequence[Any]) -> list[tuple[int, int, str]]:
    """First and last offset of each, with its reason if it is unreadable."""
    return [
        (one.first_offset, one.offset, one.reason)
        if isinstance(one, UnreadableRecord)
        else (one.offset, one.offset, "")
        for one in records
    ]


def log_with(bad: bytes) -> list[bytes]:
    """A batch at 0 and 1, the bad one at 2 to 4, a batch at 5."""
    return [batch([Made()] * 2), bad, batch([Made(value=b"behind")], base=5)]


THREE = batch([Made(value=b"one"), Made(value=b"two"), Made(value=b"three")], base=2)
ZEROS = batch([Made(value=bytes(64 * 1024**2))], codec=1, base=2)


def flipped(at: int, made: bytes = THREE) -> bytes:
    return made[:at] + bytes([made[at] ^ 0x40]) + made[at + 1 :]


UNREADABLE = {
    "a wrong bit in a record": (flipped(70), "unreadable_batch"),
    "a wrong bit in the last offset": (flipped(LAST_DELTA_AT), "unreadable_batch"),
    "a wrong bit in the count": (flipped(COUNT_AT), "unreadable_batch"),
    "a wrong bit in the attributes": (flipped(ATTRIBUTES_AT + 1), "unreadable_batch"),
    "codec 5": (changed(THREE, ATTRIBUTES_AT, ">h", 5), "unreadable_batch"),
    "codec 6": (changed(THREE, ATTRIBUTES_AT, ">h", 6), "unreadable_batch"),
    "codec 7": (changed(THREE, ATTRIBUTES_AT, ">h", 7), "unreadable_batch"),
    "records that are not compressed with gzip": (changed(THREE, ATTRIBUTES_AT, ">h", 1), "unreadable_batch"),
    "too large": (changed(changed(ZEROS, LAST_DELTA_AT, ">i", 2), COUNT_AT, ">i", 3), "batch_too_large"),
    "garbage": (with_records(THREE, b"\xff" * 40), "unreadable_batch"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_batch_that_cannot_be_read_is_one_record_and_the_batch_behind_it_is_read(name: str) -> None:
    bad, reason = UNREADABLE[name]
    found = read_all(log_with(bad), 6)
    assert spans(found) == [(0, 0, ""), (1, 1, ""), (2, 4, reason), (5, 5, "")]
    assert found[-1].value == b"behind"
    unreadable = found[2]
    assert (unreadable.topic, unreadable.partition, unreadable.key, unreadable.headers) == (*TP, None, ())
    if name != "garbage":  # of which the records are reported, and not the batch around them
        assert unreadable.value == bad
    with pytest.raises(MessageError):
        value_of(unreadable)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_batch_that_cannot_be_read_at_the_end_of_the_log_skips_nothing_behind_it(name: str) -> None:
    bad, _ = UNREADABLE[name]
    response = fetched(bad, 2)
    list(response)
    assert 2 < response.next_fetch_offset <= 5


@pytest.mark.parametrize(
    ("at", "layout", "value"), [(8, ">i", -1), (8, ">i", 2**31 - 1), (16, ">B", 3), (16, ">B", 200)]
)
def test_a_frame_that_lies_costs_its_own_offsets(at: int, layout: str, value: int) -> None:
    response = fetched(changed(THREE, at, layout, value), 2)
    [(first, last, reason)] = spans(list(response))
    assert (first, reason) == (2, "unreadable_batch")
    assert response.next_fetch_offset == last + 1 <= 5


@pytest.mark.parametrize("data", [b"x", b"x" * 12, b"x" * 60, bytes(61)])
def test_a_response_that_is_no_batch_costs_one_offset(data: bytes) -> None:
    response = fetched(data, 7)
    assert spans(list(response)) == [(7, 7, "unreadable_batch")]
    assert response.next_fetch_offset == 8


def test_a_batch_that_is_cut_off_at_the_end_of_a_response_is_read_with_the_next_one() -> None:
    response = fetched(batch([Made()] * 2) + THREE[:-1])
    assert spans(list(response)) == [(0, 0, ""), (1, 1, "")]
    assert response.next_fetch_offset == 2


def test_an_empty_response_has_nothing() -> None:
    assert not FetchedBatches(b"").has_next()
    assert FetchedBatches(b"").size_in_bytes() == 0


def test_records_before_the_position_are_left_out_in_any_case() -> None:
    assert spans(list(fetched(THREE, 4))) == [(4, 4, "")]
    named = with_records(THREE, record(0) + record(1, headers=[(b"\xff", b"")]) + record(2))
    assert spans(list(fetched(named, 4))) == [(4, 4, "")]
    assert spans(list(fetched(flipped(70), 4))) == [(4, 4, "unreadable_batch")]


@pytest.mark.parametrize("codec", range(5))
def test_a_header_name_that_is_not_utf_8_costs_nothing(codec: int) -> None:
    good, odd = record(0, value=b"one"), record(1, value=b"two", headers=[(b"tr\xffce", b"7")])
    records = good + odd + record(2, value=b"three")
    made = with_records(THREE, records)
    if codec == 1:
        made = with_records(THREE, zlib.compress(records, wbits=31), codec=1)
    found = read_all(log_with(made), 6)
    assert [one.value for one in found] == [b"value", b"value", b"one", b"two", b"three", b"behind"]
    assert found[3].headers == (("tr\\xffce", b"7"),)


def test_offsets_that_lie_hide_no_other_event() -> None:
    lying = with_records(THREE, record(0) + record(1_000_000, value=b"liar") + record(2))
    assert spans(read_all(log_with(lying), 6)) == [
        (0, 0, ""), (1, 1, ""), (2, 2, ""), (3, 3, "unreadable_record"), (4, 4, ""), (5, 5, ""),
    ]  # fmt: skip


def test_a_large_batch_is_read_with_bounded_headers() -> None:
    many = record(1, headers=[(b"", b"")] * (LARGE // 2))
    made = with_records(THREE, zlib.compress(record(0) + many + record(2), wbits=31), codec=1)
    assert spans(read_all(log_with(made), 6))[2:] == [(2, 2, ""), (3, 3, "unreadable_record"), (4, 4, ""), (5, 5, "")]


def test_a_response_inflates_to_a_bounded_size() -> None:
    large = [batch([Made(value=bytes(LIMIT - 100))], codec=1, base=base) for base in range(20)]
    response = fetched(b"".join(large))
    at_once = len(list(response))
    assert MAX_INFLATED <= at_once * LIMIT <= MAX_INFLATED + LIMIT
    assert response.next_fetch_offset == at_once
    assert len(read_all(large, 20)) == 20


# -- transactions


def marker(base: int, producer: int, kind: int) -> bytes:
    """A control batch: kind 0 aborts, 1 commits."""
    made = batch([Made(key=struct.pack(">hh", 0, kind))], base=base, producer=producer, transactional=True)
    (attributes,) = struct.unpack_from(">h", made, ATTRIBUTES_AT)
    return changed(made, ATTRIBUTES_AT, ">h", attributes | 0x20)


def test_aborted_transactions_and_markers_are_left_out() -> None:
    log = [
        batch([Made(value=b"aborted")], base=0, producer=7, transactional=True),
        marker(1, 7, 0),
        batch([Made(value=b"kept")], base=2, producer=7, transactional=True),
        marker(3, 7, 1),
        batch([Made(value=b"plain")], base=4),
    ]
    assert [one.value for one in read_all(log, 5, aborted=[(7, 0)])] == [b"kept", b"plain"]
    everything = read_all(log, 5, aborted=[(7, 0)], isolation=fetcher.READ_UNCOMMITTED)
    assert [one.value for one in everything] == [b"aborted", b"kept", b"plain"]


def test_what_is_unreadable_in_an_aborted_transaction_is_left_out_before_it_is_inflated() -> None:
    bomb = batch([Made(value=bytes(64 * 1024**2))], codec=1, producer=7, transactional=True)
    assert not read_all([bomb, marker(1, 7, 0)], 2, aborted=[(7, 0)])


def test_behind_a_damaged_marker_the_next_response_says_what_is_aborted() -> None:
    broken = marker(1, 7, 0)
    broken = broken[:-1] + bytes([broken[-1] ^ 1])
    behind = batch([Made(value=b"kept")], base=2, producer=7, transactional=True)
    response = fetched(batch([Made()], producer=7, transactional=True) + broken + behind, aborted=[(7, 0)])
    assert spans(list(response)) == [(1, 1, "unreadable_batch")]
    assert response.next_fetch_offset == 2


def test_a_control_batch_without_a_kind_is_unreadable() -> None:
    empty = with_records(marker(0, 7, 0), record(0, key=b""))
    (attributes,) = struct.unpack_from(">h", marker(0, 7, 0), ATTRIBUTES_AT)
    empty = changed(empty, ATTRIBUTES_AT, ">h", attributes)
    assert spans(read_all([empty, batch([Made()], base=1)], 2)) == [(0, 0, "unreadable_batch"), (1, 1, "")]


# -- formats 0 and 1


def legacy(magic: int, codec: int, values: Sequence[bytes], base: int = 0) -> bytes:
    builder: Any = LegacyRecordBatchBuilder(1 if magic else 0, codec, 2**31 - 1)
    for offset, value in enumerate(values):
        builder.append(offset, 1_700_000_000_000, b"key", value)
    made = bytearray(builder.build())
    if codec:  # a compressed message has the offset of the last one in it
        struct.pack_into(">q", made, 0, base + len(values) - 1)
    return bytes(made)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_the_old_formats_are_read(magic: int, codec: int) -> None:
    values = [b"one" * 50, b"two" * 50]
    found = list(fetched(legacy(magic, codec, values) + batch([Made()], base=2)))
    assert [one.value for one in found] == [*values, b"value"]
    assert spans(found) == [(0, 0, ""), (1, 1, ""), (2, 2, "")]


def test_an_old_message_that_cannot_be_read_is_one_record() -> None:
    good = legacy(1, 0, [b"good"])
    bomb = legacy(1, 1, [bytes(64 * 1024**2)] * 2)
    assert spans(list(fetched(bomb + batch([Made()], base=2)))) == [(0, 1, "batch_too_large"), (2, 2, "")]
    assert spans(list(fetched(good[:-1] + b"x"))) == [(0, 0, "unreadable_batch")]


# -- whatever comes


@given(st.data())
def test_damage_anywhere_stops_no_reader_and_hides_no_later_batch(data: st.DataObject) -> None:
    codec = data.draw(st.integers(0, 4))
    sizes = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
    bad = bytearray(batch([Made(value=value) for value in sizes], codec=codec))
    for _ in range(data.draw(st.integers(1, 4))):
        # The broker itself relies on base offset and length.
        bad[data.draw(st.integers(16, len(bad) - 1))] = data.draw(st.integers(0, 255))
    made = with_checksum(bad) if data.draw(st.booleans()) else bytes(bad)
    behind = batch([Made(value=b"behind")], base=len(sizes))
    response = fetched(made + behind)
    found = list(response)
    while response.next_fetch_offset <= len(sizes):
        response = fetched(made + behind, response.next_fetch_offset)
        found += response
    if last_of(made) < len(sizes):  # otherwise the damaged batch claims the offset of the one behind it
        assert found[-1].value == b"behind"


# -- where it is put in place


def test_it_takes_the_place_of_aiokafkas_classes() -> None:
    read_past_damage(LIMIT)
    module: Any = fetcher
    names = module.Fetcher._proc_fetch_request.__code__.co_names
    assert "MemoryRecords" in names
    assert "PartitionRecords" in names
    records = module.PartitionRecords(
        TP, module.MemoryRecords(THREE), None, 2, None, None, True, fetcher.READ_COMMITTED
    )
    assert isinstance(records, FetchedRecords)


def test_every_module_that_reads_records_puts_it_in_place() -> None:
    """A consumer that only asks for offsets needs it not; in a worker, the app puts it in place for all consumers."""
    elsewhere = {
        "streams/kafka/offsets.py": "offsets only",
        "streams/monitoring/watchdog.py": "offsets only",
        "streams/profile/table.py": "in a worker",
        "streams/demo/run.py": "its own topic on its own broker",
        "offline_training/replay/play/player.py": "what the workers wrote",
    }
    for path in [*(ROOT / "streams").rglob("*.py"), *(ROOT / "offline_training").rglob("*.py")]:
        called = {
            getattr(node.func, "id", "") for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        if "AIOKafkaConsumer" in called and str(path.relative_to(ROOT)) not in elsewhere:
            assert "read_past_damage" in called, path
