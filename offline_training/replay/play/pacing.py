"""When an event may be sent: at the speed of event time, at a rate, or at once. Pure: the clock is an argument."""

import re
from dataclasses import dataclass, field

NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}")


@dataclass
class Pace:
    """When each event may be sent. With neither speed nor rate, at once.

    After a wait for the workers, a stream with a rate does not exceed that rate; a stream with a speed catches up.

    Attributes:
        speed: seconds of event time per second.
        rate: maximum number of events per second.
    """

    speed: float | None = None
    rate: float | None = None
    _begun: tuple[float, int] | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)

    def wait(self, time: int, now: float) -> float:
        """Seconds until an event may be sent.

        Args:
            time: the time of the event, milliseconds.
            now: the time now, seconds on any monotonic clock.
        """
        if self._begun is None:
            self._begun = now, time
        begun, first = self._begun
        turn = now
        if self.speed is not None:
            turn = begun + (time - first) / 1000 / self.speed
        if self.rate is not None:
            turn = max(turn, self._next)
            self._next = max(turn, now) + 1 / self.rate
        return max(0.0, turn - now)


def parse_speed(text: str) -> float:
    """Parse `3600x` or `3600`. Raises ValueError for anything else."""
    speed = _number(text.strip().lower().removesuffix("x"))
    if not speed:
        raise ValueError(f"invalid speed {text!r}; expected a factor such as 3600x")
    return speed


def parse_rate(text: str) -> float:
    """Parse `500/s`, `500`, `30/min` or `1000/h`, to events per second. Raises ValueError for anything else."""
    number, _, unit = text.strip().lower().partition("/")
    seconds = {"": 1, "s": 1, "min": 60, "h": 3600}
    rate = _number(number) / seconds[unit] if unit in seconds else 0.0
    if not rate:
        raise ValueError(f"invalid rate {text!r}; expected events per second such as 500/s")
    return rate


def _number(text: str) -> float:
    """A number in plain digits; 0.0 for anything else."""
    return float(text) if NUMBER.fullmatch(text.strip()) else 0.0
