"""Times as people and files write them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from streams.exceptions import UnreadableTime
from streams.times import DAY, EARLIEST, milliseconds_of, parse_time, shown

NOW = 1_800_000_000_000  # milliseconds


def seeds() -> list[bytes]:
    """Every form, each unit, and texts at their limits."""
    texts = [
        "2019-10-01", "2019-10-01 00:00:00 UTC", "2019/10/01T12:30", "2019.10.01 12:30:59,123456789", "2019-10-01T00:00:00+02:00",
        "0001-01-01", "9999-12-31T23:59:59-23:59", "20191208", "201912081011", "20191208101112", "1575763200", "1575763200.5",
        "1575763200000", "1575763200000000", "1575763200000000000", "1e99", "1e929999999999999999",
        "-0.0", "nan", "01/02/2019", "1.2.19",
        " 2019-02-30 ", "9" * 41,
    ]  # fmt: skip
    return [text.encode() for text in texts]


def check(data: bytes) -> str:
    """Read a text as a time, and the number in it; a time that was read is the same when it is written out."""
    text = data.decode("utf-8", "surrogateescape")
    assert len(shown(text)) <= 60
    for number in _numbers(text):
        milliseconds_of(number)
        _one(number)
    milliseconds_of(text)
    return _one(text)


def _one(value: object) -> str:
    try:
        found = parse_time(value, now=NOW)
    except UnreadableTime as error:
        return error.reason
    assert EARLIEST <= found <= NOW + DAY
    written = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=found)).isoformat()
    assert parse_time(written, now=NOW) == found
    assert parse_time(found, now=NOW) == found
    return "accepted"


def _numbers(text: str) -> list[object]:
    """The text as an integer, a float and a decimal, as far as it is one."""
    found: list[object] = []
    for kind in (int, float, Decimal):
        try:
            found.append(kind(text))
        except (ValueError, InvalidOperation, OverflowError):
            continue
    return found
