"""Shares the few places for large pictures among the hosts, so that no host, and no number of slow ones, keeps them from others.

A picture takes a place before more than `LARGE_PICTURE_BYTES` of it are read, and gives it back when it is decoded.

1. A free place goes to the waiting host with the fewest places. No host gets more than its share: the places divided by the
   hosts that have or want one, and by one more, for the next host. A picture that is being decoded counts, because some take
   seconds.
2. While all places are taken and pictures wait, a picture that arrives slower than `BYTES_PER_SECOND` loses its place. Its
   fetch fails, and that counts as a failure of its host.
3. A picture that waits for too long fails, and that does not count as a failure of its host.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streams.exceptions import FetchError

WAIT = 10.0  # seconds that a picture waits for a place
GRACE = 2.0  # seconds for which a place is kept, however slow the picture arrives
BYTES_PER_SECOND = 32 * 1024  # the least that is fast enough
CHECK_INTERVAL = 0.25  # seconds


@dataclass(eq=False, slots=True)
class Place:
    """A place for one large picture, or the wait for it."""

    host: str
    admitted: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False  # the picture was too slow
    _since: float = 0.0
    _received: int = 0
    _give_up: Callable[[], None] | None = None

    def begin(self, give_up: Callable[[], None]) -> None:
        """Start to read. `give_up` is called once if the place is lost."""
        self._give_up = give_up

    def received(self, size: int) -> None:
        """Count `size` bytes that arrived."""
        self._received += size

    def end(self) -> None:
        """The picture is read."""
        self._give_up = None

    def lose_if_slow(self, now: float) -> None:
        """Take the place away if too few bytes have arrived until `now`, in seconds of the event loop."""
        if self._give_up is not None and now > self._since + GRACE + self._received / BYTES_PER_SECOND:
            self.lost = True
            self._give_up()
            self._give_up = None

    def admit(self, now: float) -> None:
        """Let the picture in."""
        self._since = now
        self.admitted.set()


class LargePlaces:
    """The places of one worker."""

    def __init__(self, count: int, wait: float = WAIT) -> None:
        """Create `count` places. `wait`: seconds that a picture waits for one."""
        self._count = count
        self._wait = wait
        self._taken: set[Place] = set()
        self._waiting: list[Place] = []  # the first has waited longest
        self._check: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def place(self, host: str) -> AsyncGenerator[Place]:
        """Wait for a place, and hold it until the block ends.

        Args:
            host: host and port.

        Raises:
            FetchError: `host_unavailable`, transient: no place was free in time.
        """
        place = Place(host)
        self._waiting.append(place)
        self._admit()
        try:
            if not place.admitted.is_set():
                self._check_later()
                await self._admitted(place)
            yield place
        finally:
            self._taken.discard(place)
            if place in self._waiting:
                self._waiting.remove(place)
            self._admit()

    async def _admitted(self, place: Place) -> None:
        try:
            async with asyncio.timeout(self._wait):
                await place.admitted.wait()
        except TimeoutError:
            raise FetchError(
                "host_unavailable",
                f"image_url: skipped: no place for a large picture of {place.host} within {self._wait:g} s, because other large "
                "pictures take long (FETCH_LARGE)",
                transient=True,
            ) from None

    def _admit(self) -> None:
        while self._waiting and len(self._taken) < self._count:
            held = Counter(place.host for place in self._taken)
            hosts = held.keys() | {place.host for place in self._waiting}
            first = min(self._waiting, key=lambda place: held[place.host])
            if held[first.host] >= max(1, self._count // (len(hosts) + 1)):
                return
            self._waiting.remove(first)
            self._taken.add(first)
            first.admit(asyncio.get_running_loop().time())

    def _check_later(self) -> None:
        if self._check is None:
            self._check = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check_pace)

    def _check_pace(self) -> None:
        self._check = None
        if not self._waiting:
            return
        if len(self._taken) >= self._count:
            for place in self._taken:
                place.lose_if_slow(asyncio.get_running_loop().time())
        self._check_later()
