"""The states of a circuit breaker: closed, open, half-open."""

import random

import pytest

from streams.web.circuit_breaker import (
    FIRST_OPEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    OUTCOMES_TO_JUDGE,
    SILENT_FAILURES_TO_OPEN,
    CircuitBreaker,
    State,
)


def opened(now: float) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(SILENT_FAILURES_TO_OPEN):
        breaker.record_failure("timeout", now)
    return breaker


def failures_to_open(breaker: CircuitBreaker, *, status: int, retry_after: float = 0.0) -> int:
    """How many failures in a row open it; 1000 if none does."""
    for number in range(1, 1000):
        breaker.record_failure("http_status", 0.0, status=status, retry_after=retry_after)
        if breaker.state(0.0) is State.OPEN:
            return number
    return 1000


def test_a_new_breaker_is_closed() -> None:
    breaker = CircuitBreaker()
    assert (breaker.state(0.0), breaker.seconds_open(0.0), breaker.failure_share) == (State.CLOSED, 0.0, 0.0)


def test_silent_failures_in_a_row_open_it_and_after_a_while_it_is_half_open() -> None:
    breaker = opened(100.0)
    assert (breaker.state(100.0), breaker.seconds_open(100.0)) == (State.OPEN, FIRST_OPEN_SECONDS)
    assert breaker.state(100.0 + FIRST_OPEN_SECONDS) is State.HALF_OPEN


def test_a_host_that_goes_silent_after_many_successes_opens_it_as_soon() -> None:
    breaker = CircuitBreaker()
    for _ in range(1000):
        breaker.record_success()
    for _ in range(SILENT_FAILURES_TO_OPEN):
        assert breaker.state(0.0) is State.CLOSED
        breaker.record_failure("host_unreachable", 0.0)
    assert breaker.state(0.0) is State.OPEN


def test_a_status_between_silent_failures_is_no_success() -> None:
    breaker = CircuitBreaker()
    for _ in range(SILENT_FAILURES_TO_OPEN):
        breaker.record_failure("http_status", 0.0, status=503)
        breaker.record_failure("timeout", 0.0)
    assert breaker.state(0.0) is State.OPEN


def test_a_success_closes_it_and_starts_the_count_again() -> None:
    breaker = opened(100.0)
    breaker.record_success()
    breaker.record_failure("timeout", 100.0)
    assert breaker.state(100.0) is State.CLOSED


def test_a_failed_trial_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    now, expected = 100.0, FIRST_OPEN_SECONDS
    breaker = opened(now)
    for number in range(10):
        assert breaker.seconds_open(now) == expected
        now += expected
        expected = min(2 * expected, LONGEST_OPEN_SECONDS)
        breaker.record_failure("http_status", now, status=503 * (number % 2))


def test_a_failure_while_it_is_open_does_not_prolong_it() -> None:
    breaker = opened(100.0)
    breaker.record_failure("timeout", 100.5)
    assert breaker.seconds_open(100.5) == FIRST_OPEN_SECONDS - 0.5


# Failures with a status


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_host_that_answers_everything_with_an_error_opens_it_after_some_outcomes(status: int) -> None:
    assert failures_to_open(CircuitBreaker(), status=status) == OUTCOMES_TO_JUDGE


def test_after_many_successes_more_failures_are_needed() -> None:
    breaker = CircuitBreaker()
    for _ in range(1000):
        breaker.record_success()
    assert OUTCOMES_TO_JUDGE < failures_to_open(breaker, status=503) < 3 * OUTCOMES_TO_JUDGE


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", [0.0, 30.0])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_a_host_that_fails_for_a_share_of_its_pictures_does_not_open_it(
    status: int, retry_after: float, share: float
) -> None:
    breaker, dice = CircuitBreaker(), random.Random(7)
    for _ in range(2000):
        if dice.random() < share:
            breaker.record_failure("http_status", 0.0, status=status, retry_after=retry_after)
        else:
            breaker.record_success()
        assert breaker.state(0.0) is State.CLOSED
        assert breaker.failure_share < 0.9


def test_the_share_follows_recent_outcomes() -> None:
    breaker = CircuitBreaker()
    shares: list[float] = []
    for success in [True] * 50 + [False] * 6 + [True] * 30:
        if success:
            breaker.record_success()
        else:
            breaker.record_failure("http_status", 0.0, status=503)
        shares.append(breaker.failure_share)
    assert shares[49] == 0.0
    assert 0.5 < shares[55] < 0.6
    assert shares[85] < 0.05


def test_retry_after_is_followed_once_the_host_fails_altogether() -> None:
    breaker = CircuitBreaker()
    failures_to_open(breaker, status=503, retry_after=7.0)
    assert breaker.seconds_open(0.0) == 7.0
    assert failures_to_open(CircuitBreaker(), status=503, retry_after=3600.0) == OUTCOMES_TO_JUDGE
    breaker.record_failure("http_status", 7.0, status=503, retry_after=3600.0)
    assert breaker.seconds_open(7.0) == LONGEST_OPEN_SECONDS, "but there is an upper limit"


def test_a_host_that_limits_the_rate_of_most_requests_is_left_alone_for_as_long_as_it_asks() -> None:
    breaker = CircuitBreaker()
    for number in range(100):
        if number % 6 == 5:
            breaker.record_success()
        else:
            breaker.record_failure("http_status", 0.0, status=429, retry_after=7.0)
        if breaker.state(0.0) is State.OPEN:
            break
    assert breaker.seconds_open(0.0) == 7.0
    assert breaker.state(7.0) is State.CLOSED
