"""A circuit breaker: stops requests to a host that keeps failing, and tries again after a while. No I/O and no clock.

closed     The host is healthy. Requests go through.
open       The host failed too often, or asked for time with `Retry-After`. Requests fail at once, without a connection.
half-open  The time is up. One request goes through as a trial: a response closes the breaker, a failure opens it again
           for twice as long.
"""

from enum import Enum

FAILURES_TO_OPEN = 3  # failures in a row
FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS = 1.0, 30.0  # doubled with each failed trial


class State(Enum):
    """The states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """The circuit breaker of one host. `now` is a monotonic time in seconds."""

    __slots__ = ("_next_open_seconds", "_open_until", "failures", "last_failure")

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self.last_failure = ""  # its reason
        self._open_until = 0.0
        self._next_open_seconds = FIRST_OPEN_SECONDS

    def state(self, now: float) -> State:
        """Closed, open or half-open."""
        if now < self._open_until:
            return State.OPEN
        return State.CLOSED if self.failures < FAILURES_TO_OPEN else State.HALF_OPEN

    def seconds_open(self, now: float) -> float:
        """Seconds until requests may go through again; 0 unless the breaker is open."""
        return max(0.0, self._open_until - now)

    def record_success(self) -> None:
        """Close: the host sent a response."""
        self.failures = 0
        self._open_until = 0.0
        self._next_open_seconds = FIRST_OPEN_SECONDS

    def record_failure(self, reason: str, now: float, *, retry_after: float = 0.0) -> None:
        """Count a failure, and open if it is one too many or the host asks for time.

        Args:
            reason: the reason of the failure, for messages.
            now: monotonic seconds.
            retry_after: seconds that the host asks for; 0 if it does not ask.
        """
        self.failures += 1
        self.last_failure = reason
        if self.state(now) is State.OPEN:  # this request began before the breaker opened
            return
        if self.failures >= FAILURES_TO_OPEN:
            self._open(now, max(self._next_open_seconds, retry_after))
            self._next_open_seconds = min(2 * self._next_open_seconds, LONGEST_OPEN_SECONDS)
        elif retry_after:
            self._open(now, retry_after)

    def _open(self, now: float, seconds: float) -> None:
        self._open_until = now + min(seconds, LONGEST_OPEN_SECONDS)
