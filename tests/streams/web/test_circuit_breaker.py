"""The states of a circuit breaker: closed, open, half-open."""

from streams.web.circuit_breaker import (
    FAILURES_TO_OPEN,
    FIRST_OPEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    CircuitBreaker,
    State,
)


def opened(now: float) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.record_failure("timeout", now)
    return breaker


def test_a_new_breaker_is_closed() -> None:
    breaker = CircuitBreaker()
    assert (breaker.state(0.0), breaker.seconds_open(0.0)) == (State.CLOSED, 0.0)


def test_failures_in_a_row_open_it_and_after_a_while_it_is_half_open() -> None:
    breaker = opened(100.0)
    assert (breaker.state(100.0), breaker.seconds_open(100.0)) == (State.OPEN, FIRST_OPEN_SECONDS)
    assert breaker.state(100.0 + FIRST_OPEN_SECONDS) is State.HALF_OPEN


def test_a_success_closes_it_and_starts_the_count_again() -> None:
    breaker = opened(100.0)
    breaker.record_success()
    breaker.record_failure("timeout", 100.0)
    assert breaker.state(100.0) is State.CLOSED


def test_a_failed_trial_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    now, expected = 100.0, FIRST_OPEN_SECONDS
    breaker = opened(now)
    for _ in range(10):
        assert breaker.seconds_open(now) == expected
        now += expected
        expected = min(2 * expected, LONGEST_OPEN_SECONDS)
        breaker.record_failure("timeout", now)


def test_a_failure_while_it_is_open_does_not_prolong_it() -> None:
    breaker = opened(100.0)
    breaker.record_failure("timeout", 100.5)
    assert breaker.seconds_open(100.5) == FIRST_OPEN_SECONDS - 0.5


def test_retry_after_opens_it_at_once_and_then_it_is_closed_again() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure("http_status", 100.0, retry_after=7.0)
    assert breaker.seconds_open(100.0) == 7.0
    assert breaker.state(107.0) is State.CLOSED
