"""What aiokafka cannot read, or would inflate without a bound, costs its own records and nothing else.

Some of the batches are sent as a stranger would; others are damaged in the log of the stopped broker, as a disk would.
"""

import asyncio
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from subprocess import CompletedProcess
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.raw import edit_log, produce_raw
from tests.kafka.system import READS, Record, System
from tests.streams.kafka.made import (
    ATTRIBUTES_AT,
    Made,
    batch,
    changed,
    record,
    varint,
    with_records,
)
from tests.usage import peak_resident_mb

INPUT, EMBEDDED = "user-interactions", "embedded-interactions"
MEMORY_MB = 400
MEGABYTE = 1024**2
GZIP_HEADER = b"\x1f\x8b\x08" + bytes(7)
LARGE_RECORDS = 24


def fields(name: str) -> dict[str, object]:
    """An event that needs no picture. Each user has one."""
    return {"event_id": name, "user_id": name, "item_id": "shoe", "type": "return", "timestamp": 1_700_000_000_000}


def event(name: str) -> bytes:
    return json.dumps(fields(name)).encode()


def events(*names: str, codec: int = 0) -> bytes:
    return batch([Made(key=b"key", value=event(name)) for name in names], codec=codec)


def zeros(megabytes: int) -> bytes:
    """A gzip batch with one record, whose value is that many zeros. It never exists as a whole."""
    size, block = megabytes * MEGABYTE, bytes(MEGABYTE)
    head = b"\0" + varint(0) + varint(0) + varint(-1) + varint(size)
    start, end = varint(len(head) + size + 1) + head, varint(0)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(content) + deflate.flush(zlib.Z_FULL_FLUSH) for content in (start, block)]
    checksum = zlib.crc32(start)
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    trailer = struct.pack("<II", zlib.crc32(end, checksum), len(start) + size + len(end))
    stream = GZIP_HEADER + parts[0] + parts[1] * megabytes + deflate.compress(end) + deflate.flush() + trailer
    return with_records(events("zeros"), stream, codec=1)


def headed(name: str, value: bytes, *headers: tuple[bytes, bytes], codec: int = 0) -> bytes:
    records = record(0, key=name.encode(), value=value, headers=headers)
    return with_records(events(name), zlib.compress(records, wbits=31) if codec else records, codec=codec)


def flipped(made: bytes) -> bytes:
    """With one wrong bit in the records."""
    return made[:-20] + bytes([made[-20] ^ 1]) + made[-19:]


@dataclass
class Outcome:
    """What was to be seen in the end."""

    letters: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])  # by topic/partition/offset
    answered: set[str] = field(default_factory=set[str])
    memory: dict[str, float] = field(default_factory=dict[str, float])  # MB, of each worker
    places: dict[str, tuple[TopicPartition, int]] = field(default_factory=dict[str, tuple[TopicPartition, int]])
    bags: set[str] = field(default_factory=set[str])
    recovered: set[str] = field(default_factory=set[str])
    quarantined: float = 0
    ended: list[Any] = field(default_factory=list[Any])  # the commands of workers that ended by themselves
    log: str = ""
    dataset: CompletedProcess[str] | None = None
    listed: CompletedProcess[str] | None = None
    redriven: CompletedProcess[str] | None = None

    def letter(self, name: str) -> dict[str, str]:
        """The headers of the one dead letter of a batch, without their prefix."""
        tp, offset = self.places[name]
        [letter] = self.letters[f"{tp.topic}/{tp.partition}/{offset}"]
        return {key.removeprefix("tastestream-"): value for key, value in letter.headers.items()}

    def value(self, name: str) -> bytes | None:
        tp, offset = self.places[name]
        [letter] = self.letters[f"{tp.topic}/{tp.partition}/{offset}"]
        return letter.value


LIAR = record(1_000_000, value=event("liar"))
SENT: list[tuple[int, str, Callable[[], bytes], int]] = [  # partition, name, batch, number of records
    (0, "crc", partial(events, "lost-1", "lost-2", "lost-3"), 3),
    (1, "codec 5", partial(events, "codec-5"), 1),
    (1, "codec 6", partial(events, "codec-6"), 1),
    (1, "codec 7", partial(events, "codec-7", "codec-7-too"), 2),
    (1, "offset", lambda: with_records(events("in order", "liar"), record(0, value=event("in order")) + LIAR), 2),
    (2, "zeros", partial(zeros, 700), 1),
    (2, "header", partial(headed, "header", event("header"), (b"tr\xffce", b"\xfe")), 1),
    (
        2,
        "header, compressed",
        partial(headed, "header, compressed", event("header, compressed"), (b"tr\xffce", b"\xfe"), codec=1),
        1,
    ),
    (2, "header of a bad event", partial(headed, "bad", b"{", (b"tr\xffce", b"7"), (b"tastestream-\xff", b"8")), 1),
    (2, "headers", lambda: headed("headers", event("headers"), *[(b"", b"")] * 600_000, codec=1), 1),
    (2, "headers in plain", lambda: headed("headers in plain", event("headers in plain"), *[(b"", b"")] * 200_000), 1),
    *((3, f"large {number}", partial(zeros, 31), 1) for number in range(LARGE_RECORDS)),
]
GOOD = ("header", "header, compressed", "headers in plain")  # events that headers do not spoil
CHANGES = {
    "crc": flipped,
    **{f"codec {codec}": partial(changed, at=ATTRIBUTES_AT, layout=">h", value=codec) for codec in (5, 6, 7)},
}


async def send_all(system: System, found: Outcome) -> None:
    for partition, name, made, count in SENT:
        tp = TopicPartition(INPUT, partition)
        [offset] = await produce_raw(system.broker, tp, made())
        found.places[name] = tp, offset + count - 1
        await produce_raw(system.broker, tp, events(f"behind {name}"))
    tp = TopicPartition(EMBEDDED, 0)
    for name in ("embedded", "behind embedded"):
        made = batch([Made(key=name.encode(), value=msgspec.msgpack.encode(fields(name)))])
        [offset] = await produce_raw(system.broker, tp, made)
        found.places[name] = tp, offset


async def filled(system: System, topic: str) -> TopicPartition:
    """A partition of a topic that has records."""
    ends = await system.ends(topic)
    return next(tp for tp, end in sorted(ends.items()) if end)


@pytest.fixture(scope="module")
def outcome(system: System) -> Outcome:
    found = Outcome()
    broker = system.broker
    assert system.command("topics").returncode == 0
    asyncio.run(send_all(system, found))
    broker.stop()
    for name, change in CHANGES.items():
        tp, last = found.places[name]
        count = next(count for _, sent, _, count in SENT if sent == name)
        edit_log(broker, tp, change, offset=last - count + 1)
    edit_log(broker, TopicPartition(EMBEDDED, 0), flipped)
    broker.start()

    with system.workers() as processes:
        asyncio.run(system.settled())
        found.memory = {kind: peak_resident_mb(one.pid) for kind, one in zip(READS, processes, strict=True)}
        found.ended = [one.args for one in processes if one.poll() is not None]
    for letter in asyncio.run(system.read("user-interactions-dlq")):
        place = "/".join(letter.headers[f"tastestream-{part}"] for part in ("topic", "partition", "offset"))
        found.letters.setdefault(place, []).append(letter)
    found.answered = {one["event_id"] for one in asyncio.run(system.recommendations())}
    found.bags = set(system.stored_bags())

    damaged = [asyncio.run(filled(system, topic)) for topic in (BAGS_CHANGELOG, "user-interactions-dlq")]
    broker.stop()
    for tp in damaged:
        edit_log(broker, tp, flipped)
    broker.start()
    system.remove_data()
    with system.worker("profile"):
        _, text = system.get("profile", "/metrics")
        line = next(one for one in text.splitlines() if one.startswith("tastestream_quarantined_rows_total"))
        found.quarantined = float(line.split()[-1])
    found.recovered = set(system.stored_bags())
    found.log = system.log()
    found.dataset = system.command("dataset", "topic", "--out", str(system.folder / "set"), "--pictureless")
    found.listed = system.command("dlq", "list", "--json")
    found.redriven = system.command("dlq", "redrive", "--all", "--dry-run")
    return found


@pytest.mark.parametrize("name", [*(name for _, name, _, _ in SENT), "embedded"])
def test_the_event_behind_it_is_recommended(outcome: Outcome, name: str) -> None:
    assert f"behind {name}" in outcome.answered


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("crc", "unreadable_batch", "checksum"),
        ("codec 5", "unreadable_batch", "codec 5"),
        ("codec 6", "unreadable_batch", "codec 6"),
        ("codec 7", "unreadable_batch", "codec 7"),
        ("offset", "unreadable_record", "states offset 10000"),
        ("zeros", "batch_too_large", "33554432 bytes (MAX_BATCH_BYTES)"),
        ("headers", "unreadable_record", "600000 headers"),
        ("header of a bad event", "invalid_json", "not JSON"),
        ("large 0", "message_too_large", "65536"),
        ("embedded", "unreadable_batch", "checksum"),
    ],
)
def test_it_is_one_dead_letter_with_its_reason(outcome: Outcome, name: str, reason: str, said: str) -> None:
    letter = outcome.letter(name)
    assert letter["reason"] == reason
    assert said in letter["error"]
    assert letter["worker"] == ("profile" if name == "embedded" else "embed")


def test_the_dead_letter_of_a_batch_names_its_offsets_and_holds_its_bytes(outcome: Outcome) -> None:
    letter = outcome.letter("crc")
    assert int(letter["offset"]) - int(letter["first-offset"]) == 2
    sent = flipped(events("lost-1", "lost-2", "lost-3"))
    assert (outcome.value("crc") or b"")[16:] == sent[16:]  # in front of it the broker has put offset and epoch
    assert len(outcome.value("zeros") or b"") > 600_000


@pytest.mark.parametrize("name", GOOD)
def test_a_good_event_with_odd_headers_is_recommended(outcome: Outcome, name: str) -> None:
    assert name in outcome.answered


def test_a_bad_event_keeps_its_header_with_the_name_escaped(outcome: Outcome) -> None:
    letter = outcome.letter("header of a bad event")
    assert letter["tr\\xffce"] == "7"
    assert outcome.value("header of a bad event") == b"{"


def test_there_are_no_other_dead_letters(outcome: Outcome) -> None:
    bad = {name for name in outcome.places if name not in {*GOOD, "behind embedded"}}
    places = {f"{tp.topic}/{tp.partition}/{offset}" for name, (tp, offset) in outcome.places.items() if name in bad}
    assert outcome.letters.keys() == places
    assert all(len(letters) == 1 for letters in outcome.letters.values())


@pytest.mark.parametrize("kind", ["embed", "profile"])
def test_the_memory_of_a_worker_stays_bounded(outcome: Outcome, kind: str) -> None:
    assert outcome.memory[kind] < MEMORY_MB


def test_recovery_passes_over_a_damaged_batch_of_the_changelog(outcome: Outcome) -> None:
    assert outcome.quarantined >= 1
    assert "passed over the rows of the bags at the offsets" in outcome.log
    assert outcome.recovered < outcome.bags
    assert len(outcome.recovered) >= len(outcome.bags) // 2


def test_no_worker_ended(outcome: Outcome) -> None:
    assert "Traceback" not in outcome.log
    assert outcome.ended == []


def test_a_data_set_from_the_topic_counts_what_it_leaves_out(outcome: Outcome) -> None:
    assert outcome.dataset
    said = outcome.dataset.stdout + outcome.dataset.stderr
    assert "Traceback" not in said
    assert re.search(r"left out: unreadable batch +│ 7, ", said), said
    assert re.search(r"left out: batch too large +│ 1, ", said)


def test_dead_letters_are_listed_and_none_of_them_is_sent_that_holds_no_event(outcome: Outcome) -> None:
    assert outcome.listed
    assert outcome.redriven
    assert outcome.listed.returncode == 0, outcome.listed.stderr
    listed = [json.loads(line) for line in outcome.listed.stdout.splitlines()]
    [lost] = [one for one in listed if one["error"].startswith("this dead letter cannot be read: the checksum")]
    assert (lost["reason"], lost["original"]) == ("unreadable_batch", None)
    assert len(listed) > LARGE_RECORDS
    assert outcome.redriven.returncode == 0, outcome.redriven.stderr
    assert "the dead letter holds bytes that cannot be read as an event" in outcome.redriven.stdout
