"""A circuit breaker: stops requests to a host that keeps failing, and tries again after a while. No I/O and no clock.

closed     The host is healthy, or only some of its pictures fail. Requests go through.
open       Nearly all recent requests failed, or the host asked most of them for time. Requests fail at once, without a
           connection.
half-open  The time is up. One request goes through as a trial: a response closes the breaker, a failure opens it again
           for twice as long.

A failure with a status, such as 503, may be that of one picture, so the share of such failures decides. Failures without a
response cost a connection and seconds each, so a few of them in a row are enough.
"""

from enum import Enum

RECENT = 8  # the outcome of a request counts half as much after about six others
OUTCOMES_TO_JUDGE = 12  # outcomes before their shares tell something: some broken pictures may well come first
NEARLY_ALL = 0.9  # share of failures that opens the breaker
MOST = 0.75  # share of responses 429 with which `Retry-After` holds for the host, and not for one picture
SILENT_FAILURES_TO_OPEN = 3  # failures without a response, and no success between
FIRST_OPEN_SECONDS, LONGEST_OPEN_SECONDS = 1.0, 30.0  # doubled with each failed trial
UNUSED_SECONDS = 60.0  # half-open without a trial, after which nobody is kept from the host any more

_KEPT = 1 - 1 / RECENT
_WEIGHT_TO_JUDGE = sum(_KEPT**age for age in range(OUTCOMES_TO_JUDGE))


class State(Enum):
    """The states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """The circuit breaker of one host. `now` is a monotonic time in seconds."""

    __slots__ = (
        "_failed",
        "_next_open_seconds",
        "_open_until",
        "_rate_limited",
        "_silent",
        "_since",
        "_tripped",
        "_weight",
        "last_failure",
    )

    def __init__(self) -> None:
        self.last_failure = ""  # its reason
        self._weight = self._failed = self._rate_limited = (
            0.0  # outcomes, failures, and responses 429; older ones weigh less
        )
        self._silent = 0  # failures without a response since the last success
        self._tripped = False  # open, or half-open
        self._since = 0.0  # when it opened, if it is not closed
        self._open_until = 0.0
        self._next_open_seconds = FIRST_OPEN_SECONDS

    @property
    def failure_share(self) -> float:
        """The share of recent requests that failed, between 0 and 1."""
        return self._failed / self._weight if self._weight else 0.0

    def state(self, now: float) -> State:
        """Closed, open or half-open."""
        if now < self._open_until:
            return State.OPEN
        return State.HALF_OPEN if self._tripped else State.CLOSED

    def seconds_open(self, now: float) -> float:
        """Seconds until requests may go through again; 0 unless the breaker is open."""
        return max(0.0, self._open_until - now)

    def not_closed_since(self, now: float) -> float | None:
        """When it opened, seconds; None if it is closed, or if nobody has asked for a picture of the host since long before."""
        if self.state(now) is State.CLOSED or now - self._open_until > UNUSED_SECONDS:
            return None
        return self._since

    def record_success(self) -> None:
        """Close: the host sent a picture, or said for good that there is none."""
        self._count()
        self._silent = 0
        self._tripped = False
        self._open_until = 0.0
        self._next_open_seconds = FIRST_OPEN_SECONDS

    def record_failure(self, reason: str, now: float, *, status: int = 0, retry_after: float = 0.0) -> None:
        """Count a failure, and open if too many requests fail.

        Args:
            reason: the reason of the failure, for messages.
            now: monotonic seconds.
            status: the HTTP status; 0 if there was no response.
            retry_after: seconds that the host asks for; 0 if it does not ask.
        """
        self._count(failed=True, rate_limited=status == 429)
        self._silent += not status
        self.last_failure = reason
        state = self.state(now)
        if state is State.OPEN:  # this request began before the breaker opened
            return
        if state is State.CLOSED:
            self._since = now
        judged = self._weight >= _WEIGHT_TO_JUDGE
        if (
            state is State.HALF_OPEN
            or self._silent >= SILENT_FAILURES_TO_OPEN
            or (judged and self.failure_share >= NEARLY_ALL)
        ):
            self._tripped = True
            self._open(now, max(self._next_open_seconds, retry_after))
            self._next_open_seconds = min(2 * self._next_open_seconds, LONGEST_OPEN_SECONDS)
        elif judged and retry_after and self._rate_limited / self._weight >= MOST:
            self._open(now, retry_after)

    def _count(self, *, failed: bool = False, rate_limited: bool = False) -> None:
        self._weight = _KEPT * self._weight + 1
        self._failed = _KEPT * self._failed + failed
        self._rate_limited = _KEPT * self._rate_limited + rate_limited

    def _open(self, now: float, seconds: float) -> None:
        self._open_until = now + min(seconds, LONGEST_OPEN_SECONDS)
