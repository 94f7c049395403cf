"""How much each host of pictures gets, and when it gets nothing for a while: politeness to them, and isolation of the others.

Each host begins with `first` attempts at a time and is given one more with each answer, up to `per_host`; a failure that time may
heal halves that. After `FAILURES` in a row the host is closed: attempts fail at once, without a connection, and say when to
come again. Then a single attempt goes through, the trial: an answer opens the host, a failure closes it for twice as long.
`Retry-After` closes a host, too.

Hosts whose last attempt was not answered, new ones among them, share `unproven` places: a crowd of hosts that hang, which
anybody can invent, leaves the others to those that answer.

No I/O: what is done with a turn is the caller's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from streams.exceptions import FetchError

FAILURES = 3  # in a row, after which a host is closed
FIRST_CLOSING, LONGEST_CLOSING = 1.0, 30.0  # seconds, doubled with each trial that fails
KNOWN_HOSTS = 10_000  # hosts that are remembered, some hundred bytes each


@dataclass(frozen=True)
class HostLimits:
    """What hosts get."""

    first: int = (
        4  # attempts at a time, of a host that nothing is known of: one slow picture must not hold up all its others
    )
    per_host: int = 8  # attempts at a time, of one host
    unproven: int = 128  # the same, of all hosts together that have not answered last time
    unproven_wait: float = 10.0  # seconds that an attempt waits for one of these places


@dataclass(slots=True, eq=False)
class _Host:
    name: str
    limit: int  # attempts at a time
    active: int = 0
    proven: bool = False  # the last attempt was answered
    failures: int = 0  # in a row
    last_failure: str = ""  # its reason
    closed_until: float = 0.0  # monotonic seconds
    closing: float = FIRST_CLOSING  # seconds that the next closing lasts
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])

    @property
    def allowed(self) -> int:
        """Attempts at a time, of a host that is not closed."""
        return self.limit if self.failures < FAILURES else 1  # the trial


class Hosts:
    """The hosts that one worker takes pictures from."""

    def __init__(self, limits: HostLimits | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._limits = limits or HostLimits()
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()  # the one that was used last is last
        self._unproven = asyncio.Semaphore(self._limits.unproven)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncGenerator[None]:
        """One attempt at a host, as soon as it may have one. A FetchError that leaves the block tells how the host fares.

        Raises FetchError `host_unavailable`, transient, with `retry_after`, while the host is closed.
        """
        host = self._known(name)
        await self._enter(host)
        try:
            async with AsyncExitStack() as place:
                if not host.proven:
                    await self._take_unproven_place(host, place)
                place.push(partial(self._judge, host))
                yield
        finally:
            host.active -= 1
            self._admit(host)

    async def _take_unproven_place(self, host: _Host, place: AsyncExitStack) -> None:
        wait = self._limits.unproven_wait
        try:
            async with asyncio.timeout(wait):
                await place.enter_async_context(self._unproven)
        except TimeoutError:
            raise FetchError(
                "host_unavailable",
                f"image_url: {host.name} was not tried: for {wait:g} s too many other hosts had not answered",
                transient=True,
            ) from None

    def _judge(self, host: _Host, _: object, error: BaseException | None, __: object) -> None:
        """How an attempt has ended."""
        if isinstance(error, FetchError) and error.transient:
            self._failed(host, error)
        elif not isinstance(error, asyncio.CancelledError):
            self._answered(host)

    async def _enter(self, host: _Host) -> None:
        left = host.closed_until - self._clock()
        if left > 0:
            raise _closed(host, left)
        if host.active < host.allowed and not host.waiting:
            host.active += 1
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host.waiting.append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and not admitted.exception():
                host.active -= 1  # admitted, and cancelled in the same turn of the loop
                self._admit(host)
            else:
                with suppress(ValueError):
                    host.waiting.remove(admitted)
            raise

    def _admit(self, host: _Host) -> None:
        """Let in who waits, as many as may be."""
        while host.waiting and host.active < host.allowed:
            admitted = host.waiting.popleft()
            if not admitted.done():
                host.active += 1
                admitted.set_result(None)

    def _answered(self, host: _Host) -> None:
        host.proven = True
        host.failures = 0
        host.closed_until, host.closing = 0.0, FIRST_CLOSING
        host.limit = min(host.limit + 1, self._limits.per_host)

    def _failed(self, host: _Host, error: FetchError) -> None:
        host.proven = False
        host.failures += 1
        host.last_failure = error.reason
        host.limit = max(1, host.limit // 2)
        now = self._clock()
        if host.closed_until > now:  # one of several attempts that were under way
            return
        if host.failures >= FAILURES:
            self._close(host, max(host.closing, error.retry_after))
            host.closing = min(2 * host.closing, LONGEST_CLOSING)
        elif error.retry_after:
            self._close(host, error.retry_after)

    def _close(self, host: _Host, seconds: float) -> None:
        seconds = min(seconds, LONGEST_CLOSING)
        host.closed_until = self._clock() + seconds
        while host.waiting:
            waiting = host.waiting.popleft()
            if not waiting.done():
                waiting.set_exception(_closed(host, seconds))

    def _known(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name, self._limits.first)
        self._hosts.move_to_end(name)
        while len(self._hosts) > KNOWN_HOSTS:
            self._hosts.popitem(last=False)
        return host


def _closed(host: _Host, seconds: float) -> FetchError:
    return FetchError(
        "host_unavailable",
        f"image_url: {host.name} was not tried: it failed {host.failures} times in a row, the last time with "
        f"{host.last_failure}, and is asked again in {seconds:.1f} s",
        transient=True,
        retry_after=seconds,
    )
