"""What one host does costs the others nothing, and no host is asked more than it can bear."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from streams.exceptions import FetchError
from streams.web.hosts import FAILURES, FIRST_CLOSING, LONGEST_CLOSING, HostLimits, Hosts

A, B = "a.example:443", "b.example:443"


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> Hosts:
    return Hosts(HostLimits(first=1, per_host=4, unproven=2, unproven_wait=0.05), clock)


async def answer(hosts: Hosts, name: str = A) -> None:
    async with hosts.turn(name):
        pass


async def fail(hosts: Hosts, name: str = A, *, transient: bool = True, retry_after: float = 0.0) -> None:
    with pytest.raises(FetchError, match="as the test says"):
        async with hosts.turn(name):
            raise FetchError("timeout", "as the test says", transient=transient, retry_after=retry_after)


@asynccontextmanager
async def attempts(hosts: Hosts, name: str, count: int) -> AsyncGenerator[list[int]]:
    """So many attempts at once, all of which take until the end of the block. Gives the numbers of those under way."""
    under_way: list[int] = []
    end = asyncio.Event()

    async def attempt(number: int) -> None:
        async with hosts.turn(name):
            under_way.append(number)
            await end.wait()

    tasks = [asyncio.create_task(attempt(number)) for number in range(count)]
    await asyncio.sleep(0.01)
    try:
        yield under_way
    finally:
        end.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused(hosts: Hosts, name: str = A) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await answer(hosts, name)
    assert (caught.value.reason, caught.value.transient) == ("host_unavailable", True)
    return caught.value


@pytest.mark.parametrize(("answers", "expected"), [(0, 1), (1, 2), (2, 3), (3, 4), (9, 4)])
async def test_a_host_begins_with_one_attempt_and_gets_one_more_with_each_answer(
    hosts: Hosts, answers: int, expected: int
) -> None:
    for _ in range(answers):
        await answer(hosts)
    async with attempts(hosts, A, 6) as under_way:
        assert under_way == list(range(expected))


async def test_who_waits_comes_in_order_and_all_come(hosts: Hosts) -> None:
    order: list[int] = []

    async def attempt(number: int) -> None:
        async with hosts.turn(A):
            order.append(number)

    await asyncio.gather(*(attempt(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_failure_halves_what_a_host_gets(hosts: Hosts) -> None:
    for _ in range(5):
        await answer(hosts)
    await fail(hosts)
    async with attempts(hosts, A, 6) as under_way:
        assert len(under_way) == 2


async def test_failures_in_a_row_close_a_host_and_it_says_when_to_come_again(hosts: Hosts, clock: Clock) -> None:
    for _ in range(FAILURES):
        await fail(hosts)
    error = await refused(hosts)
    assert error.retry_after == FIRST_CLOSING
    assert "a.example" in str(error)
    assert "timeout" in str(error)
    clock.now += FIRST_CLOSING / 2
    assert (await refused(hosts)).retry_after == FIRST_CLOSING / 2


async def test_a_failure_between_answers_closes_nothing(hosts: Hosts) -> None:
    for _ in range(3 * FAILURES):
        await fail(hosts)
        await answer(hosts)


async def test_an_answer_that_is_no_picture_is_an_answer(hosts: Hosts) -> None:
    for _ in range(3 * FAILURES):
        await fail(hosts, transient=False)  # a 404, say
    await answer(hosts)


async def test_after_the_closing_one_attempt_goes_through_and_its_answer_opens_the_host(
    hosts: Hosts, clock: Clock
) -> None:
    for _ in range(FAILURES):
        await fail(hosts)
    clock.now += FIRST_CLOSING
    async with attempts(hosts, A, 5) as under_way:
        assert len(under_way) == 1
    await answer(hosts)


async def test_a_trial_that_fails_closes_for_twice_as_long_and_refuses_those_who_waited_for_it(
    hosts: Hosts, clock: Clock
) -> None:
    for _ in range(FAILURES):
        await fail(hosts)
    closing = FIRST_CLOSING
    for _ in range(10):
        clock.now += closing
        closing = min(2 * closing, LONGEST_CLOSING)
        begun = asyncio.Event()

        async def trial(begun: asyncio.Event = begun) -> None:
            async with hosts.turn(A):
                begun.set()
                await asyncio.sleep(0.005)
                raise FetchError("timeout", "as the test says", transient=True)

        trying = asyncio.create_task(trial())
        await begun.wait()
        assert (await refused(hosts)).retry_after == closing
        with pytest.raises(FetchError):
            await trying


async def test_a_host_that_asks_for_time_gets_it(hosts: Hosts, clock: Clock) -> None:
    await answer(hosts)
    await fail(hosts, retry_after=7)
    assert (await refused(hosts)).retry_after == 7
    clock.now += 7
    await fail(hosts, retry_after=3600)
    assert (await refused(hosts)).retry_after == LONGEST_CLOSING, "but not for ever"


async def test_a_closed_host_closes_no_other(hosts: Hosts) -> None:
    for _ in range(FAILURES):
        await fail(hosts)
    await answer(hosts, B)


async def test_hosts_that_have_not_answered_share_few_places_and_those_that_have_do_not_need_them(hosts: Hosts) -> None:
    await answer(hosts, A)
    async with attempts(hosts, "hangs-1", 1), attempts(hosts, "hangs-2", 1):
        await answer(hosts, A)
        error = await refused(hosts, B)
        assert "b.example" in str(error)
    await answer(hosts, B)


async def test_a_host_that_was_not_tried_has_not_failed(hosts: Hosts) -> None:
    async with attempts(hosts, "hangs-1", 1), attempts(hosts, "hangs-2", 1):
        for _ in range(FAILURES):
            await refused(hosts, B)
    await answer(hosts, B)


@pytest.mark.parametrize("at", ["waiting", "admitted", "under way"])
async def test_an_attempt_that_is_cancelled_leaves_its_place_to_the_next(hosts: Hosts, at: str) -> None:
    end = asyncio.Event()

    async def attempt() -> None:
        async with hosts.turn(A):
            await end.wait()

    first, second = asyncio.create_task(attempt()), asyncio.create_task(attempt())
    await asyncio.sleep(0.01)
    if at == "under way":
        first.cancel()
    elif at == "admitted":
        end.set()
        await asyncio.sleep(0)  # the first has left, and the second is admitted but has not run
        second.cancel()
    else:
        second.cancel()
    end.set()
    await asyncio.gather(first, second, return_exceptions=True)
    await asyncio.wait_for(answer(hosts), 1)
    assert hosts._hosts[A].active == 0
