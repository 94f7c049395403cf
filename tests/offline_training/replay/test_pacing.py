"""When events may be sent."""

import pytest

from offline_training.replay.play.pacing import Pace, parse_rate, parse_speed


def test_without_a_speed_or_a_rate_events_are_sent_at_once() -> None:
    pace = Pace()
    assert [pace.wait(time, now=5.0) for time in (0, 10**12)] == [0, 0]


def test_a_speed_scales_event_time_and_catches_up() -> None:
    pace = Pace(speed=3600)
    hour = 3_600_000
    assert pace.wait(10 * hour, now=100.0) == 0
    assert pace.wait(12 * hour, now=100.5) == pytest.approx(1.5)
    assert pace.wait(12 * hour, now=103.0) == 0, "it is late and does not wait"
    assert pace.wait(15 * hour, now=103.0) == pytest.approx(2.0), "it is on time again"


def test_a_rate_is_not_exceeded_after_a_wait() -> None:
    pace = Pace(rate=10)
    assert pace.wait(0, now=0.0) == 0
    assert pace.wait(0, now=0.0) == pytest.approx(0.1)
    assert pace.wait(0, now=0.1) == pytest.approx(0.1)
    assert pace.wait(0, now=9.0) == 0
    assert pace.wait(0, now=9.0) == pytest.approx(0.1)


def test_speeds_and_rates_are_parsed() -> None:
    assert [parse_speed(text) for text in ("3600x", "1.5", "10X")] == [3600, 1.5, 10]
    assert [parse_rate(text) for text in ("500/s", "500", "30/min", "3600/h")] == [500, 500, 0.5, 1]


@pytest.mark.parametrize("text", ["", "fast", "0x", "-1", "nan", "inf", "x"])
def test_invalid_speeds_and_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_speed(text)
    with pytest.raises(ValueError, match=r"."):
        parse_rate(text.replace("x", "/day"))
