"""When an event's turn comes: as event time says, so many a second, or at once. Pure: the clock is an argument."""

from dataclasses import dataclass, field


@dataclass
class Pace:
    """speed: seconds of event time in a second. rate: events a second. Both None: at once.

    Neither makes up for a wait that was the workers' by hurrying beyond the rate; with `speed` the stream catches up.
    """

    speed: float | None = None
    rate: float | None = None
    _begun: tuple[float, int] | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)

    def wait(self, time: int, now: float) -> float:
        """Seconds until an event of `time` (milliseconds) may be produced. now: seconds on any steady clock."""
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
    """`3600x` or `3600`. Raises ValueError."""
    speed = float(text.strip().lower().removesuffix("x"))
    if not 0 < speed < float("inf"):
        raise ValueError(f"{text} is no speed")
    return speed


def parse_rate(text: str) -> float:
    """`500/s`, `500`, `30/min`, `1000/h`. Raises ValueError."""
    number, _, unit = text.strip().lower().partition("/")
    seconds = {"": 1, "s": 1, "min": 60, "h": 3600}
    if unit not in seconds:
        raise ValueError(f"{text} is no rate")
    rate = float(number) / seconds[unit]
    if not 0 < rate < float("inf"):
        raise ValueError(f"{text} is no rate")
    return rate
