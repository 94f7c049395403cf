"""A bad record on a topic becomes one dead letter that says why, and the good event behind it is processed.

All records are produced at once, each followed by a good event on the same partition. Then each is a test of its own.
"""

import asyncio
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from PIL import Image

from model.bundle import Bundle
from tests.kafka.system import Record, System, picture_server

PICTURES = "{pictures}"  # placeholder for the URL of the picture server
PARTITIONS = 4
GOOD: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "anna",
    "item_id": "shoe",
    "type": "purchase",
    "timestamp": "2014-05-01T12:00:00Z",
    "image_url": f"{PICTURES}/good.png",
}


class Bad(NamedTuple):
    """A record that must become a dead letter. Its name is its key, and is in a header."""

    name: str
    value: bytes | None
    reason: str
    field: str = ""
    topic: str = "user-interactions"
    keyed: bool = True

    @property
    def key(self) -> bytes | None:
        return self.name.encode() if self.keyed else None


def but(**fields: object) -> bytes:
    """The good event with some fields replaced."""
    return json.dumps(GOOD | fields).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()


def from_url(name: str, url: str, reason: str) -> Bad:
    return Bad(name, but(image_url=url), reason, "image_url")


WHOLE = [
    Bad("broken JSON", b'{"user_id": "anna", "type"', "invalid_json"),
    Bad("not UTF-8", b'{"user_id": "\xff\xfe"}', "invalid_json"),
    Bad("null value", None, "empty_message"),
    Bad("neither key nor value", None, "empty_message", keyed=False),
    Bad("empty value", b"", "empty_message"),
    Bad("JSON array", b"[1, 2, 3]", "invalid_field"),
    Bad("nested 50,000 deep", b'{"x": ' + b"[" * 50_000, "invalid_json"),
    Bad("over 64 KB", but(note="x" * 65_536), "message_too_large"),
]
FIELDS = [
    *(Bad(f"no {name}", without(name), "missing_field", name) for name in GOOD if name != "event_id"),
    Bad("null item_id", but(item_id=None), "missing_field", "item_id"),
    *(Bad(f"{name} a number", but(**{name: 7}), "invalid_field", name) for name in ("type", "image_url")),
    *(Bad(f"{name} a fraction", but(**{name: 7.5}), "invalid_field", name) for name in GOOD if name != "timestamp"),
    *(Bad(f"{name} ends in a line feed", but(**{name: "a\n"}), "invalid_field", name) for name in GOOD),
    Bad("user_id reorders text", but(user_id="a\u202eb"), "invalid_field", "user_id"),
    Bad("seconds", but(timestamp=1_400_000_000), "timestamp_too_old", "timestamp"),
    Bad(
        "an erase an hour ahead",
        but(type="erase", timestamp=int(time.time() * 1000) + 3_600_000),
        "timestamp_in_future",
        "timestamp",
    ),
    *(
        Bad(f"timestamp {value!r}", but(timestamp=value), "invalid_field", "timestamp")
        for value in (True, 1.5, -1, None, [], "yesterday", "2014-05-01T12:00:00", "1914-05-01T12:00:00Z", 10**18)
    ),
    Bad("unknown type", but(type="stare"), "invalid_field", "type"),
    Bad("far future", but(timestamp="2999-01-01T00:00:00Z"), "timestamp_in_future", "timestamp"),
    Bad("user_id of 10 KB", but(user_id="u" * 10_240), "invalid_field", "user_id"),
    Bad("image_url of 3 KB", but(image_url="http://a.example/" + "x" * 3_000), "invalid_field", "image_url"),
    Bad("empty user_id", but(user_id=""), "invalid_field", "user_id"),
    *(
        Bad(f"control character in {name}", but(**{name: "a\x00b\n"}), "invalid_field", name)
        for name in GOOD
        if name.endswith("_id")
    ),
]
URLS = [
    *(from_url(f"{url.partition(':')[0]} URL", url, "url_scheme") for url in (
        "file:///etc/passwd", "ftp://a.example/a.jpg", "data:image/png;base64,AAAA", "javascript:alert(1)",
    )),
    *(from_url(f"host {host}", f"http://{host}/a.jpg", "address_not_public") for host in (
        "10.0.0.1", "169.254.169.254", "192.168.1.1", "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]", "0.0.0.0",
        "167772161", "0x0a000001", "012.0.0.1", "0xA9FEA9FE", "2852039166",
    )),
    from_url("no host", "http:///a.jpg", "url_invalid"),
    from_url("password in the URL", "http://ann:hush@a.example/a.jpg", "url_invalid"),
    from_url("404", f"{PICTURES}/nowhere.jpg", "http_status"),
    *(from_url(name, f"{PICTURES}/{name}", reason) for name, reason in {
        "text.jpg": "not_a_picture", "cut.jpg": "truncated_picture", "cut.png": "truncated_picture",
        "huge.png": "picture_too_large", "empty.jpg": "empty_body",
    }.items()),
]  # fmt: skip


def embedded(**fields: object) -> bytes:
    """An embedded interaction as the embed worker publishes it, with some fields replaced."""
    bundle = Bundle.load()
    record = {
        "event_id": "e1", "user_id": "anna", "item_id": "shoe", "type": "purchase", "timestamp": 1_400_000_000_000,
        "image_url": "", "embedder": bundle.embedder_version, "embedding": b"\0" * (8 + bundle.embedding_size),
    }  # fmt: skip
    return msgspec.msgpack.encode(record | fields)


EMBEDDED = [
    bad._replace(topic="embedded-interactions")
    for bad in (
        Bad("embedded: broken MessagePack", b"\x85\xa8event_id", "invalid_msgpack"),
        Bad("embedded: null value", None, "empty_message"),
        Bad("embedded: neither key nor value", None, "empty_message", keyed=False),
        Bad("embedded: a wrong length", embedded(embedding=b"\0" * 100), "invalid_field", "embedding"),
        Bad("embedded: nested 50,000 deep", b"\x81\xa1x" + b"\x91" * 50_000, "invalid_msgpack"),
        Bad("embedded: no user_id", msgspec.msgpack.encode({"event_id": "e1"}), "missing_field", "user_id"),
        Bad("embedded: a user_id of 70 KB", embedded(user_id="u" * 70_000), "invalid_field", "user_id"),
        Bad("embedded: a time after the year 9999", embedded(timestamp=2**60), "invalid_field", "timestamp"),
        Bad("embedded: a negative time", embedded(timestamp=-1), "invalid_field", "timestamp"),
    )
]
CASES = [*WHOLE, *FIELDS, *URLS, *EMBEDDED]


def make_pictures(folder: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    noise.save(folder / "good.png")
    for name in ("cut.jpg", "cut.png"):
        whole = io.BytesIO()
        noise.save(whole, "JPEG" if name.endswith("jpg") else "PNG")
        (folder / name).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "text.jpg").write_text("this is not a picture")
    (folder / "empty.jpg").touch()
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    (folder / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    )


@dataclass
class Outcome:
    """What the topics held in the end."""

    pictures: str
    places: dict[str, tuple[int, int]]  # partition and offset of each bad record
    letters: dict[str, list[Record]]
    recommended: dict[str, int]  # how often, by event id
    lag: int

    def original(self, bad: Bad) -> bytes | None:
        return None if bad.value is None else bad.value.replace(PICTURES.encode(), self.pictures.encode())


@pytest.fixture(scope="module")
def outcome(system: System) -> Iterator[Outcome]:
    folder = system.folder / "pictures"
    folder.mkdir()
    make_pictures(folder)
    with picture_server(folder) as pictures:
        found = Outcome(pictures, {}, {}, {}, -1)
        with system.workers():
            asyncio.run(produce_all(system, found))
            asyncio.run(system.settled())
            found.lag = asyncio.run(system.lag())
        for letter in asyncio.run(system.read("user-interactions-dlq")):
            found.letters.setdefault(letter.headers["name"], []).append(letter)
        for one in asyncio.run(system.recommendations()):
            found.recommended[one["event_id"]] = found.recommended.get(one["event_id"], 0) + 1
        yield found


async def produce_all(system: System, found: Outcome) -> None:
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for number, bad in enumerate(CASES):
            partition = number % PARTITIONS
            batch = producer.create_batch()  # `send` refuses a record with neither key nor value
            headers = [("name", bad.name.encode()), ("trace", b"7")]
            batch.append(timestamp=None, key=bad.key, value=found.original(bad), headers=headers)
            sent = await (await producer.send_batch(batch, bad.topic, partition=partition))
            found.places[bad.name] = (sent.partition, sent.offset)
            behind = {"user_id": f"user-{number}", "event_id": f"behind {bad.name}"}
            good = but(**behind).replace(PICTURES.encode(), found.pictures.encode())
            value = good if bad.topic == "user-interactions" else embedded(**behind)
            await producer.send_and_wait(bad.topic, value, key=b"good", partition=partition)


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_a_bad_record_becomes_one_dead_letter_with_its_reason(outcome: Outcome, bad: Bad) -> None:
    assert bad.name in outcome.letters, "no dead letter"
    [letter] = outcome.letters[bad.name]
    headers = {name.removeprefix("tastestream-"): value for name, value in letter.headers.items()}
    assert (letter.key, letter.value) == (bad.key, outcome.original(bad))
    assert (headers["reason"], headers["field"]) == (bad.reason, bad.field), headers["error"]
    assert (int(headers["partition"]), int(headers["offset"])) == outcome.places[bad.name]
    assert headers["topic"] == bad.topic
    assert headers["worker"] == ("embed" if bad in [*WHOLE, *FIELDS, *URLS] else "profile")
    assert headers["trace"] == "7", "the headers of the original are kept"
    assert headers["error"]
    assert bad.field in headers["error"], "the message names the field"
    assert headers["error"].isprintable()
    assert len(headers["error"]) <= 1000
    assert abs(time.time() - time.mktime(time.strptime(headers["at"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 600


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_the_good_event_behind_a_bad_record_is_recommended(outcome: Outcome, bad: Bad) -> None:
    assert outcome.recommended.get(f"behind {bad.name}") == 1


def test_there_are_no_other_dead_letters_or_recommendations(outcome: Outcome) -> None:
    assert outcome.letters.keys() == {bad.name for bad in CASES}
    assert outcome.recommended.keys() == {f"behind {bad.name}" for bad in CASES}


def test_all_records_are_committed(outcome: Outcome) -> None:
    assert outcome.lag == 0


def test_a_password_in_a_url_is_not_repeated_in_the_message(outcome: Outcome) -> None:
    [letter] = outcome.letters["password in the URL"]
    assert "hush" not in letter.headers["tastestream-error"]
