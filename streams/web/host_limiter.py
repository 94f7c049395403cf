"""Limits the requests to each host: protects the host from us, and the pictures of all other hosts from this one.

Each host has a concurrency limit that adapts: it starts at `initial`, and grows by one with each picture up to `per_host`. The
share of recent requests that failed lowers it: at half of them the host gets half. Each host also has a circuit breaker
(`circuit_breaker`): while that is open, requests fail at once.

A picture that failed is tried again, and then its failures count for the picture only: a few broken pictures must not speak for
a host.

A host is proven when its last request got a response, whatever its status. Unproven hosts, including new ones, share `unproven`
slots. Anybody can invent hosts that hang; this leaves the other slots to the hosts that respond.

No I/O: the caller makes the request while it holds a slot.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from time import monotonic
from typing import NamedTuple

from streams.exceptions import FetchError
from streams.web.circuit_breaker import CircuitBreaker, State

KNOWN_HOSTS = 10_000  # hosts that are remembered, some hundred bytes each


@dataclass(frozen=True)
class HostLimits:
    """How many requests hosts get at a time.

    Attributes:
        initial: requests at a time to a host that nothing is known of. More than one, because one slow picture must not
            delay all others of its host.
        per_host: requests at a time to one host at most.
        unproven: requests at a time to all unproven hosts together.
        unproven_wait: seconds that a request waits for one of these slots.
    """

    initial: int = 4
    per_host: int = 8
    unproven: int = 128
    unproven_wait: float = 10.0


@dataclass(slots=True, eq=False)
class _Host:
    name: str
    full_limit: int  # requests at a time while none fails
    active: int = 0  # requests under way
    refused: int = 0  # as `OpenCircuit` has it
    proven: bool = False
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    @property
    def limit(self) -> int:
        """Requests at a time while the breaker is closed."""
        return max(1, round(self.full_limit * (1 - self.breaker.failure_share)))


class Failing(NamedTuple):
    """A host, some of whose recent requests failed."""

    name: str  # host and port
    state: State  # of its circuit breaker
    share: float  # of its recent requests that failed, between 0 and 1


class OpenCircuit(NamedTuple):
    """A host that is not asked for pictures, because its circuit breaker is not closed."""

    name: str  # host and port
    seconds: float  # since the breaker opened
    refused: int  # as `refuse` has counted since then


class HostLimiter:
    """The concurrency limits and circuit breakers of all hosts that one worker fetches pictures from."""

    def __init__(self, limits: HostLimits | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._limits = limits or HostLimits()
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()  # least recently used first
        self._open: dict[str, _Host] = {}  # those whose breakers opened, and did not close since
        self._unproven = asyncio.Semaphore(self._limits.unproven)

    @asynccontextmanager
    async def slot(self, name: str, *, repeated: bool = False) -> AsyncGenerator[None]:
        """Hold a slot for one request to a host; waits until the host has a free one.

        A transient FetchError that leaves the block counts as a failure of the host, except `host_unavailable`: that one is
        about this worker. Anything else but a cancellation counts as a success.

        Args:
            name: host and port.
            repeated: whether the host has answered for the same picture before, and failed. If it fails with a status
                again, the host is not held to account, except by a half-open breaker.

        Raises:
            FetchError: `host_unavailable`, transient. While the breaker of the host is open, `retry_after` says for how
                long. Otherwise no slot for unproven hosts was free in time.
        """
        host = self._known(name)
        await self._enter(host)
        try:
            async with AsyncExitStack() as stack:
                if not host.proven:
                    await self._take_unproven_slot(host, stack)
                stack.push(partial(self._record_outcome, host, repeated))
                yield
        finally:
            host.active -= 1
            self._admit_waiting(host)

    def states(self) -> dict[State, int]:
        """The number of hosts whose circuit breakers are in each state."""
        now = self._clock()
        counts = Counter(host.breaker.state(now) for host in self._hosts.values())
        return {state: counts[state] for state in State}

    def open_circuits(self) -> list[OpenCircuit]:
        """The hosts that are not asked, those first that refused most."""
        now = self._clock()
        found = [
            OpenCircuit(name, now - since, host.refused)
            for name, host in self._open.items()
            if (since := host.breaker.not_closed_since(now)) is not None
        ]
        return sorted(found, key=lambda one: one.refused, reverse=True)

    def refuse(self, name: str) -> None:
        """Count an event that does without a picture of a host, if the circuit breaker of the host is not closed."""
        if host := self._open.get(name):
            host.refused += 1

    def worst(self, count: int) -> list[Failing]:
        """The hosts that fail most, at most `count` of them; those whose circuit breakers are not closed come first."""
        now = self._clock()
        failing = [
            Failing(host.name, host.breaker.state(now), host.breaker.failure_share)
            for host in self._hosts.values()
            if host.breaker.failure_share
        ]
        return nlargest(count, failing, key=lambda one: (one.state is not State.CLOSED, one.share))

    async def _take_unproven_slot(self, host: _Host, stack: AsyncExitStack) -> None:
        wait = self._limits.unproven_wait
        try:
            async with asyncio.timeout(wait):
                await stack.enter_async_context(self._unproven)
        except TimeoutError:
            raise FetchError(
                "host_unavailable",
                f"image_url: skipped: no free slot for {host.name} within {wait:g} s, because too many other hosts do not respond",
                transient=True,
            ) from None

    def _record_outcome(self, host: _Host, repeated: bool, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, asyncio.CancelledError) or getattr(error, "reason", "") == "host_unavailable":
            return
        if isinstance(error, FetchError) and error.transient:
            self._record_failure(host, error, repeated)
        else:
            host.proven = True
            host.breaker.record_success()
            self._open.pop(host.name, None)
            host.full_limit = min(host.full_limit + 1, self._limits.per_host)

    def _record_failure(self, host: _Host, error: FetchError, repeated: bool) -> None:
        host.proven = error.status > 0
        if repeated and error.status and host.breaker.state(self._clock()) is not State.HALF_OPEN:
            return
        was_closed = host.breaker.state(self._clock()) is State.CLOSED
        host.breaker.record_failure(error.reason, self._clock(), status=error.status, retry_after=error.retry_after)
        if host.breaker.state(self._clock()) is State.OPEN:
            if was_closed and self._hosts.get(host.name) is host:
                host.refused = 0
                self._open[host.name] = host
            while host.waiting:
                waiting = host.waiting.popleft()
                if not waiting.done():
                    waiting.set_exception(self._open_error(host))

    async def _enter(self, host: _Host) -> None:
        if host.breaker.state(self._clock()) is State.OPEN:
            raise self._open_error(host)
        if not host.waiting and self._has_free_slot(host):
            host.active += 1
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting.append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and not admitted.exception():
                host.active -= 1  # admitted and cancelled in the same iteration of the loop
                self._admit_waiting(host)
            else:
                with suppress(ValueError):
                    host.waiting.remove(admitted)
            raise

    def _admit_waiting(self, host: _Host) -> None:
        while host.waiting and self._has_free_slot(host):
            admitted = host.waiting.popleft()
            if not admitted.done():
                host.active += 1
                admitted.set_result(None)

    def _has_free_slot(self, host: _Host) -> bool:
        closed = host.breaker.state(self._clock()) is State.CLOSED
        return host.active < (host.limit if closed else 1)  # one trial while the breaker is half-open

    def _open_error(self, host: _Host) -> FetchError:
        seconds = host.breaker.seconds_open(self._clock())
        return FetchError(
            "host_unavailable",
            f"image_url: skipped: the circuit breaker of {host.name} is open ({host.breaker.failure_share:.0%} of its "
            f"recent requests failed, the last: {host.breaker.last_failure}); next attempt in {seconds:.1f} s",
            transient=True,
            retry_after=seconds,
        )

    def _known(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name, self._limits.initial)
        self._hosts.move_to_end(name)
        while len(self._hosts) > KNOWN_HOSTS:
            gone, _ = self._hosts.popitem(last=False)
            self._open.pop(gone, None)
        return host
