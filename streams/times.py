"""Parses times as people and files write them, into milliseconds since the epoch.

A number has no unit of its own. It is read in the unit that puts it between `EARLIEST` and a day from now: the ranges of seconds,
milliseconds, microseconds, nanoseconds, `yyyymmdd`, `yyyymmddHHMM` and `yyyymmddHHMMSS` do not overlap, so there is at most one.
The time of an event outside this range is refused: it is a mistake, or in a unit that nobody can tell.
"""

import re
import time as clock
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, SupportsIndex, cast

from streams.exceptions import UnreadableTime

EARLIEST = 631_152_000_000  # 1990-01-01T00:00:00Z in milliseconds: no shop has older events
DAY = 86_400_000  # milliseconds; a clock or a time zone may be that far ahead
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_MILLISECOND = (Decimal("0.001"), Decimal(1), Decimal(1000), Decimal(1_000_000))  # s, ms, us, ns

NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?")
DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
WRITTEN = re.compile(
    r"""(?P<date>[0-9]{4}([-/.])[0-9]{2}\2[0-9]{2})
    (?:[Tt\ ]\ ?(?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,30})?)?))?
    \ ?(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?(?:\ UTC)?)?""",
    re.VERBOSE,
)
DAY_OR_MONTH_FIRST = re.compile(r"[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:[0-9]{2}){1,2}\b.*", re.DOTALL)


class Milliseconds(int):
    """A number that is known to be in milliseconds since the epoch, because its column says so."""


def parse_time(value: Any, *, now: int | None = None) -> int:
    """Read a time in any form that has one meaning. Without a zone it is UTC.

    Args:
        value: a number, the text of a number, an ISO 8601 date or time (`2019-10-01`, `2019-10-01 00:00:00.5 UTC`), a `date` or a
            `datetime`.
        now: the time now, milliseconds since the epoch; None: ask the clock.

    Returns:
        Milliseconds since the epoch, rounded down, from `EARLIEST` to a day after `now`.

    Raises:
        UnreadableTime: `no_time` if the value is not a time, `ambiguous_time` if it has several meanings, `time_out_of_range` if
            no reading of it is in the range.
    """
    latest = (int(clock.time() * 1000) if now is None else now) + DAY
    found = next((one for one in _readings(value) if EARLIEST <= one <= latest), None)
    if found is None:
        raise UnreadableTime(
            "time_out_of_range",
            f"{shown(value)} is not between 1990-01-01 and tomorrow; expected a date, or seconds or milliseconds since 1970",
        )
    return found


def milliseconds_of(value: Any) -> int | None:
    """Like `parse_time`, but without a bound for a time that is written out, and None for what is not a time."""
    try:
        found = set(_readings(value))
        return found.pop() if len(found) == 1 else parse_time(value)
    except UnreadableTime:
        return None


def shown(value: Any) -> str:
    """A value as it is named in a message: at most 60 characters."""
    if isinstance(value, int) and value.bit_length() > 256:  # Python refuses to write thousands of digits
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:256] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _readings(value: Any) -> Iterator[int]:
    """Yield the times that a value may stand for, in milliseconds; also those out of range.

    Raises:
        UnreadableTime: it stands for none, or for one of many.
    """
    if isinstance(value, Milliseconds):
        yield int(value)
    elif isinstance(value, datetime):
        yield _since_epoch(value)
    elif isinstance(value, date):
        yield _since_epoch(datetime(value.year, value.month, value.day, tzinfo=UTC))
    elif isinstance(value, str):
        text = value.strip()
        if NUMBER.fullmatch(text):
            yield from _of_number(Decimal(text), value)
        else:
            yield _of_text(text, value)
    else:
        yield from _of_number(_decimal(value), value)


def _decimal(value: Any) -> Decimal:
    """The exact number, in the digits that a float is written with. Raises UnreadableTime if it is none."""
    try:
        if isinstance(value, Decimal):
            return value
        if isinstance(value, float):
            return Decimal(repr(float(value)))
        if not isinstance(value, bool) and hasattr(value, "__index__"):
            return Decimal(int(cast("SupportsIndex", value).__index__()))
    except (InvalidOperation, ValueError):
        pass
    raise _no_time(value)


def _of_number(number: Decimal, value: Any) -> Iterator[int]:
    if not number.is_finite():
        raise _no_time(value)
    if (
        number.adjusted() >= 20
    ):  # larger than any nanoseconds: no arithmetic on numbers of any length, which could overflow
        return
    if number >= 0:
        yield from (int(number // per) for per in PER_MILLISECOND)
        if number == int(number):
            yield from _of_digits(str(int(number)))


def _of_digits(digits: str) -> Iterator[int]:
    try:
        if len(digits) in DIGITS:
            yield _since_epoch(datetime.strptime(digits, DIGITS[len(digits)]).replace(tzinfo=UTC))
    except ValueError:
        return


def _of_text(text: str, value: Any) -> int:
    found = WRITTEN.fullmatch(text)
    if found is None:
        if DAY_OR_MONTH_FIRST.fullmatch(text):
            raise UnreadableTime(
                "ambiguous_time", f"{shown(value)}: day or month may come first; write it as 2026-11-01T12:00:00Z"
            )
        raise _no_time(value)
    zone = (found["zone"] or "").removesuffix(" UTC").upper()
    zone = "+00:00" if zone in {"", "Z", "UTC", "GMT"} else zone
    day = re.sub("[/.]", "-", found["date"])
    try:
        return _since_epoch(datetime.fromisoformat(f"{day}T{(found['time'] or '00:00').replace(',', '.')}{zone}"))
    except ValueError:
        raise _no_time(value) from None


def _since_epoch(moment: datetime) -> int:
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)


def _no_time(value: Any) -> UnreadableTime:
    return UnreadableTime("no_time", f"{shown(value)} is not a time; expected for example 2026-11-01T12:00:00Z")
