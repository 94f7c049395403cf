"""A time is read in the one meaning that it has, or refused with the reason."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.exceptions import UnreadableTime
from streams.times import DAY, EARLIEST, Milliseconds, milliseconds_of, parse_time

NOW = 1_796_000_000_000  # 2026-11-30
MAY = 1_398_945_600_000  # 2014-05-01T12:00:00Z
DECEMBER = 1_575_763_200_000  # 2019-12-08T00:00:00Z
OCTOBER = 1_569_888_000_000  # 2019-10-01T00:00:00Z


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (1398945600, MAY),
        (1398945600001, MAY + 1),
        (1398945600001999, MAY + 1),
        (1398945600001999999, MAY + 1),
        ("1398945600", MAY),
        (" 1398945600001 ", MAY + 1),
        ("1398945600001999", MAY + 1),
        ("1398945600001999999", MAY + 1),
        (1398945600.001, MAY + 1),
        ("1398945600.001", MAY + 1),
        ("1.3989456e9", MAY),
        (Decimal("1398945600.001"), MAY + 1),
        (np.float64(1398945600.001), MAY + 1),
        (np.int64(1398945600), MAY),
        (20191208, DECEMBER),
        ("20191208", DECEMBER),
        (20191208.0, DECEMBER),
        ("20191208101112", DECEMBER + (10 * 3600 + 11 * 60 + 12) * 1000),
        (201912081011, DECEMBER + (10 * 3600 + 11 * 60) * 1000),
        ("2019-12-08", DECEMBER),
        ("2019/12/08", DECEMBER),
        (date(2019, 12, 8), DECEMBER),
        (datetime(2019, 12, 8), DECEMBER),  # noqa: DTZ001
        (datetime(2019, 12, 8, 2, tzinfo=timezone(timedelta(hours=2))), DECEMBER),
        (datetime(2019, 12, 8, 0, 0, 0, 999_999, tzinfo=UTC), DECEMBER + 999),
        (Milliseconds(DECEMBER), DECEMBER),
        ("2019-10-01 00:00:00 UTC", OCTOBER),
        ("2019-10-01 00:00:00 GMT", OCTOBER),
        ("2019-10-01 00:00:00.25 UTC", OCTOBER + 250),
        ("2019-10-01T00:00:00,25Z", OCTOBER + 250),
        ("2019-10-01 00:00:00.123456789", OCTOBER + 123),
        ("2019-10-01 02:00:00 +0200", OCTOBER),
        ("2019-10-01 02:00:00 +0200 UTC", OCTOBER),
        ("2019-10-01T02:00:00+02", OCTOBER),
        ("2019-10-01 00:00", OCTOBER),
        ("1990-01-01", EARLIEST),
        (NOW + DAY, NOW + DAY),
    ],
)
def test_a_time_with_one_meaning_is_read(value: Any, milliseconds: int) -> None:
    assert parse_time(value, now=NOW) == milliseconds


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_time"),
        (True, "no_time"),
        ("", "no_time"),
        ("yesterday", "no_time"),
        ("--5", "no_time"),
        ("²", "no_time"),
        ("٢٠١٩١٢٠٨", "no_time"),
        pytest.param("9" * 5000, "no_time", id="5,000 digits"),
        pytest.param(10**8000, "time_out_of_range", id="8,001 digits"),
        (float("nan"), "no_time"),
        (float("inf"), "no_time"),
        (Decimal("NaN"), "no_time"),
        (Decimal("-Infinity"), "no_time"),
        (Decimal("1e999999"), "time_out_of_range"),
        (Decimal("1e929999999999999999"), "time_out_of_range"),
        (Decimal("-9.9e929999999999999999"), "time_out_of_range"),
        (Decimal("1e-929999999999999999"), "time_out_of_range"),
        ("1e99", "time_out_of_range"),
        ("2019-02-30", "no_time"),
        ("2019-10-01 00:00:00 CET", "no_time"),
        ("2019-10/01", "no_time"),
        (b"2019-10-01", "no_time"),
        ([20191208], "no_time"),
        ("01/10/2019", "ambiguous_time"),
        ("1.10.19 12:00", "ambiguous_time"),
        ("0001-01-01", "time_out_of_range"),
        ("9999-12-31", "time_out_of_range"),
        (date(1, 1, 1), "time_out_of_range"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "time_out_of_range"),
        ("1989-12-31T23:59:59.999Z", "time_out_of_range"),
        (NOW + DAY + 1, "time_out_of_range"),
        (Milliseconds(20191208), "time_out_of_range"),
        (Milliseconds(1398945600), "time_out_of_range"),
        (0, "time_out_of_range"),
        (-1, "time_out_of_range"),
        ("-1398945600", "time_out_of_range"),
        (20191399, "time_out_of_range"),
        (12, "time_out_of_range"),
    ],
)
def test_another_value_is_refused_with_its_reason(value: Any, reason: str) -> None:
    with pytest.raises(UnreadableTime) as refused:
        parse_time(value, now=NOW)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 250


@given(st.one_of(st.text(max_size=40), st.floats(), st.integers(), st.decimals(), st.dates(), st.datetimes()))
def test_any_value_is_in_the_range_or_refused(value: Any) -> None:
    try:
        assert EARLIEST <= parse_time(value, now=NOW) <= NOW + DAY
    except UnreadableTime as refused:
        assert refused.reason


@given(st.integers(EARLIEST, NOW), st.sampled_from([1, 1000, 1_000_000]))
def test_the_unit_of_a_number_is_never_mistaken(milliseconds: int, per: int) -> None:
    assert parse_time(milliseconds * per, now=NOW) == milliseconds
    assert parse_time(str(milliseconds * per), now=NOW) == milliseconds
    assert parse_time(milliseconds // 1000, now=NOW) == milliseconds // 1000 * 1000


def test_an_option_may_name_a_time_beyond_the_range_of_events() -> None:
    assert milliseconds_of("2099-01-01") == 4_070_908_800_000
    assert milliseconds_of("1970-01-02") == DAY
    assert milliseconds_of("1398945600") == MAY
    assert milliseconds_of("12") is None
    assert milliseconds_of("tomorrow") is None
