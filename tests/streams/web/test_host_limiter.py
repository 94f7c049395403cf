"""Each host has a concurrency limit and a circuit breaker, and no host affects the others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from streams.exceptions import FetchError
from streams.web import host_limiter
from streams.web.circuit_breaker import (
    FIRST_OPEN_SECONDS,
    LONGEST_OPEN_SECONDS,
    OUTCOMES_TO_JUDGE,
    SILENT_FAILURES_TO_OPEN,
    UNUSED_SECONDS,
)
from streams.web.host_limiter import HostLimiter, HostLimits, OpenCircuit

A, B = "a.example:443", "b.example:443"


class Clock:
    """A clock that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> HostLimiter:
    return HostLimiter(HostLimits(initial=1, per_host=4, unproven=2, unproven_wait=0.05), clock)


async def succeed(limiter: HostLimiter, name: str = A) -> None:
    async with limiter.slot(name):
        pass


async def fail(
    limiter: HostLimiter,
    name: str = A,
    *,
    transient: bool = True,
    status: int = 0,
    retry_after: float = 0.0,
    repeated: bool = False,
) -> None:
    """A request that fails without a response, or with a status."""
    reason = "http_status" if status else "timeout"
    error = FetchError(reason, "as the test wants", transient=transient, status=status, retry_after=retry_after)
    with pytest.raises(FetchError, match="as the test wants"):
        async with limiter.slot(name, repeated=repeated):
            raise error


@asynccontextmanager
async def requests(limiter: HostLimiter, name: str, count: int) -> AsyncGenerator[list[int]]:
    """`count` concurrent requests that last until the end of the block. Gives the numbers of those that hold a slot."""
    active: list[int] = []
    end = asyncio.Event()

    async def request(number: int) -> None:
        async with limiter.slot(name):
            active.append(number)
            await end.wait()

    tasks = [asyncio.create_task(request(number)) for number in range(count)]
    await asyncio.sleep(0.01)
    try:
        yield active
    finally:
        end.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused(limiter: HostLimiter, name: str = A) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await succeed(limiter, name)
    assert (caught.value.reason, caught.value.transient) == ("host_unavailable", True)
    return caught.value


@pytest.mark.parametrize(("responses", "expected"), [(0, 1), (1, 2), (2, 3), (3, 4), (9, 4)])
async def test_the_limit_starts_at_one_and_grows_by_one_with_each_response(
    limiter: HostLimiter, responses: int, expected: int
) -> None:
    for _ in range(responses):
        await succeed(limiter)
    async with requests(limiter, A, 6) as active:
        assert active == list(range(expected))


async def test_waiting_requests_run_in_order(limiter: HostLimiter) -> None:
    order: list[int] = []

    async def request(number: int) -> None:
        async with limiter.slot(A):
            order.append(number)

    await asyncio.gather(*(request(number) for number in range(20)))
    assert order == list(range(20))


@pytest.mark.parametrize("status", [0, 503])
async def test_the_share_of_failures_lowers_the_limit_and_successes_raise_it_again(
    limiter: HostLimiter, status: int
) -> None:
    for _ in range(20):
        await succeed(limiter)
    for _ in range(4):
        await fail(limiter, status=status)
        await succeed(limiter)
    async with requests(limiter, A, 6) as active:
        assert len(active) == 3
    for _ in range(20):
        await succeed(limiter)
    async with requests(limiter, A, 6) as active:
        assert len(active) == 4


async def test_a_host_that_mostly_fails_still_gets_one_request_at_a_time(limiter: HostLimiter) -> None:
    for _ in range(OUTCOMES_TO_JUDGE - 1):
        await fail(limiter, status=503)
    async with requests(limiter, A, 6) as active:
        assert len(active) == 1


async def test_failures_in_a_row_open_the_breaker_and_the_error_carries_retry_after(
    limiter: HostLimiter, clock: Clock
) -> None:
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    error = await refused(limiter)
    assert error.retry_after == FIRST_OPEN_SECONDS
    assert "a.example" in str(error)
    assert "timeout" in str(error)
    clock.now += FIRST_OPEN_SECONDS / 2
    assert (await refused(limiter)).retry_after == FIRST_OPEN_SECONDS / 2


async def test_a_failure_between_responses_does_not_open_the_breaker(limiter: HostLimiter) -> None:
    for _ in range(3 * SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
        await succeed(limiter)


async def test_a_permanent_failure_counts_as_a_response(limiter: HostLimiter) -> None:
    for _ in range(3 * SILENT_FAILURES_TO_OPEN):
        await fail(limiter, transient=False)  # for example a 404
    await succeed(limiter)


async def test_a_half_open_breaker_lets_one_trial_through_and_a_response_closes_it(
    limiter: HostLimiter, clock: Clock
) -> None:
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    clock.now += FIRST_OPEN_SECONDS
    async with requests(limiter, A, 5) as active:
        assert len(active) == 1
    await succeed(limiter)


async def test_a_failed_trial_opens_the_breaker_for_twice_as_long_and_fails_the_waiting_requests(
    limiter: HostLimiter, clock: Clock
) -> None:
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    open_seconds = FIRST_OPEN_SECONDS
    for _ in range(10):
        clock.now += open_seconds
        open_seconds = min(2 * open_seconds, LONGEST_OPEN_SECONDS)
        started = asyncio.Event()

        async def trial(started: asyncio.Event = started) -> None:
            async with limiter.slot(A):
                started.set()
                await asyncio.sleep(0.005)
                raise FetchError("timeout", "as the test wants", transient=True)

        task = asyncio.create_task(trial())
        await started.wait()
        assert (await refused(limiter)).retry_after == open_seconds
        with pytest.raises(FetchError):
            await task


async def test_retry_after_of_one_picture_does_not_stop_the_others(limiter: HostLimiter) -> None:
    for _ in range(OUTCOMES_TO_JUDGE - 1):
        await fail(limiter, status=503, retry_after=30)
    for _ in range(20):
        await succeed(limiter)
        await fail(limiter, status=429, retry_after=30)


async def test_retry_after_of_all_pictures_stops_the_host_for_so_long(limiter: HostLimiter) -> None:
    for _ in range(OUTCOMES_TO_JUDGE):
        await fail(limiter, status=429, retry_after=7)
    error = await refused(limiter)
    assert error.retry_after == 7
    assert "100% of its recent requests failed, the last: http_status" in str(error)


async def test_a_picture_that_keeps_failing_with_a_status_does_not_speak_for_its_host(
    limiter: HostLimiter, clock: Clock
) -> None:
    for _ in range(10 * OUTCOMES_TO_JUDGE):
        await fail(limiter, status=503, repeated=True)
    await succeed(limiter)
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter, repeated=True)
    await refused(limiter)
    clock.now += FIRST_OPEN_SECONDS
    await fail(limiter, status=503, repeated=True)
    assert (await refused(limiter)).retry_after == 2 * FIRST_OPEN_SECONDS, "a trial counts"


async def test_a_request_that_this_worker_skips_is_no_failure_of_the_host(limiter: HostLimiter) -> None:
    for _ in range(3 * OUTCOMES_TO_JUDGE):
        with pytest.raises(FetchError, match="no place"):
            async with limiter.slot(A):
                raise FetchError("host_unavailable", "no place", transient=True)
    await succeed(limiter)


async def test_a_host_that_answers_with_an_error_is_proven(limiter: HostLimiter) -> None:
    await fail(limiter, A, status=503)
    async with requests(limiter, "hangs-1", 1), requests(limiter, "hangs-2", 1):
        await succeed(limiter, A)


async def test_an_open_breaker_does_not_affect_other_hosts(limiter: HostLimiter) -> None:
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    await succeed(limiter, B)


async def test_unproven_hosts_share_few_slots_and_proven_hosts_need_none_of_them(limiter: HostLimiter) -> None:
    await succeed(limiter, A)
    async with requests(limiter, "hangs-1", 1), requests(limiter, "hangs-2", 1):
        await succeed(limiter, A)
        error = await refused(limiter, B)
        assert "b.example" in str(error)
    await succeed(limiter, B)


async def test_a_skipped_request_does_not_count_as_a_failure(limiter: HostLimiter) -> None:
    async with requests(limiter, "hangs-1", 1), requests(limiter, "hangs-2", 1):
        for _ in range(SILENT_FAILURES_TO_OPEN):
            await refused(limiter, B)
    await succeed(limiter, B)


@pytest.mark.parametrize("at", ["waiting", "admitted", "active"])
async def test_a_cancelled_request_leaves_its_slot_to_the_next(limiter: HostLimiter, at: str) -> None:
    end = asyncio.Event()

    async def request() -> None:
        async with limiter.slot(A):
            await end.wait()

    first, second = asyncio.create_task(request()), asyncio.create_task(request())
    await asyncio.sleep(0.01)
    if at == "active":
        first.cancel()
    elif at == "admitted":
        end.set()
        await asyncio.sleep(0)  # the first has ended; the second is admitted but has not run
        second.cancel()
    else:
        second.cancel()
    end.set()
    await asyncio.gather(first, second, return_exceptions=True)
    await asyncio.wait_for(succeed(limiter), 60)
    assert limiter._hosts[A].active == 0


async def test_a_half_open_breaker_lets_one_trial_through_although_the_limit_is_higher(clock: Clock) -> None:
    limiter = HostLimiter(HostLimits(initial=32, per_host=32), clock)
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    clock.now += FIRST_OPEN_SECONDS
    async with requests(limiter, A, 5) as active:
        assert len(active) == 1


async def test_a_host_is_told_of_from_the_opening_of_its_breaker_until_a_response(
    limiter: HostLimiter, clock: Clock
) -> None:
    clock.now = 100.0
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    limiter.refuse(A)
    limiter.refuse(B)  # nothing is wrong with it
    clock.now += FIRST_OPEN_SECONDS
    await fail(limiter)  # the trial
    limiter.refuse(A)
    clock.now += 1.5
    assert limiter.open_circuits() == [OpenCircuit(A, FIRST_OPEN_SECONDS + 1.5, 2)]
    clock.now += 1
    await succeed(limiter)
    assert limiter.open_circuits() == []
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    assert limiter.open_circuits() == [OpenCircuit(A, 0.0, 0)], "it counts from the new opening on"


async def test_a_host_that_asks_all_for_time_is_told_of_for_so_long(limiter: HostLimiter, clock: Clock) -> None:
    for _ in range(OUTCOMES_TO_JUDGE - 1):
        await fail(limiter, status=429, retry_after=5)
    await succeed(limiter)
    await fail(limiter, status=429, retry_after=5)
    assert limiter.open_circuits() == [OpenCircuit(A, 0.0, 0)]
    clock.now += 5
    assert limiter.open_circuits() == []


async def test_a_host_that_nobody_asks_for_any_more_is_not_told_of_for_ever(limiter: HostLimiter, clock: Clock) -> None:
    for _ in range(SILENT_FAILURES_TO_OPEN):
        await fail(limiter)
    clock.now += FIRST_OPEN_SECONDS + UNUSED_SECONDS
    assert limiter.open_circuits()
    clock.now += 1
    assert limiter.open_circuits() == []


async def test_the_hosts_that_refused_most_are_told_of_first_and_those_that_are_forgotten_not(
    limiter: HostLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (A, B):
        for _ in range(SILENT_FAILURES_TO_OPEN):
            await fail(limiter, name)
    limiter.refuse(B)
    assert [one.name for one in limiter.open_circuits()] == [B, A]
    monkeypatch.setattr(host_limiter, "KNOWN_HOSTS", 1)
    await succeed(limiter, "c.example:443")
    assert limiter.open_circuits() == []
    assert limiter._open == {}
