"""Records of the dead letter topic, and records of which dead letters are made.

An input is one record: lines of `name: content` for the headers, an empty line, the key up to the next line end, and the value.
"""

from datetime import UTC, datetime

from streams.dead_letter import PREFIX, Letter, dead_letter, parse_letter, subject
from streams.exceptions import MessageError
from tests.fuzz import embedded, interactions
from tests.records import record

AT = datetime(2026, 11, 1, tzinfo=UTC)
MAX_BYTES = 1_000_000  # of a record that a topic with default settings takes


def seeds() -> list[bytes]:
    """Letters of both workers, with the headers in valid and broken forms."""
    headers = (
        b"tastestream-reason: missing_field\ntastestream-at: 2026-11-01T12:00:00+00:00\n"
        b"tastestream-topic: user-interactions\ntastestream-partition: 3\ntastestream-offset: 77\n"
    )
    return [
        headers + b"tastestream-worker: embed\n\nuser\n" + interactions.seeds()[0],
        headers + b"tastestream-worker: profile\ntastestream-attempts: 2\n\nuser\n" + embedded.seeds()[0],
        b"trace: \xff\xfe\ntastestream-offset: -1\ntastestream-at: 9999-12-31T23:59:59-23:59\n\n\xff\n{",
        b"tastestream-truncated: 99999999999999999999\ntastestream-attempts: \xd9\xa3\ntastestream-partition: 1e3\n\n\n",
        b"\n\n",
    ]


def check(data: bytes) -> str:
    """Read a letter, and make one of the same record and read it."""
    lines, _, body = data.partition(b"\n\n")
    key, _, value = body.partition(b"\n")
    headers = [
        (name.decode(errors="replace"), content)
        for name, _, content in (one.partition(b": ") for one in lines.split(b"\n"))
    ]
    letter = parse_letter(
        key or None,
        value or None,
        headers,
        partition=0,
        offset=1,
        timestamp=int.from_bytes(key[:8], "big", signed=True),
    )
    _usable(letter)
    original = record(key=key or None, value=value or None, headers=headers)
    made = dead_letter(original, MessageError("invalid_json", value.decode(errors="replace")), worker="embed", at=AT)
    assert (
        sum(len(part or b"") for part in (made.key, made.value))
        + sum(len(n.encode()) + len(c) for n, c in made.headers)
        < MAX_BYTES
    )
    again = parse_letter(made.key, made.value, made.headers, partition=0, offset=1, timestamp=0)
    _usable(again)
    assert (again.key, again.value) == (key or None, value or None)
    assert (again.reason, again.worker, again.at, again.truncated) == ("invalid_json", "embed", AT, None)
    assert again.headers == tuple(one for one in headers if not one[0].startswith(PREFIX))
    return letter.reason or "no reason"


def _usable(letter: Letter) -> None:
    found = subject(letter)
    assert isinstance(found.user, str)
    assert letter.at.tzinfo is not None
    assert letter.at.isoformat()
    redriven = parse_letter(letter.key, letter.value, letter.headers, partition=0, offset=0, timestamp=0)
    assert redriven.headers == letter.headers
