"""Who waits for changes of bags: for one event of one user, or for all that changes. Everything is of one event loop."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from streams.profile.bag import Bag
from streams.serve.interface import Change

MOST_WAITING = 10_000  # calls that wait for an event at a time
KEPT = 4096  # users whose last change is kept for slow readers


def has(bag: Bag, event_id: str) -> bool:
    """Whether a bag shows that an event was folded into it.

    An event whose place a newer one of the same item and type has taken leaves no trace. Neither does one that the floor covers,
    unless the floor is that event.
    """
    if bag.floor is not None and bag.floor.event_id == event_id:
        return True
    return any(moment.event_id == event_id for slot in bag.slots.values() for moment in slot.newest.values())


class Waiting:
    """The calls that wait until a bag has an event."""

    def __init__(self) -> None:
        self._calls: dict[str, list[tuple[str, asyncio.Future[None]]]] = {}  # by user
        self._count = 0

    @property
    def users(self) -> Sequence[str]:
        """Those whose bags somebody waits for."""
        return list(self._calls)

    async def wait(self, user_id: str, event_id: str, timeout: float) -> bool:
        """Wait until `arrived` brings the event, at most `timeout` seconds. Returns whether it came. False if too many wait."""
        if self._count >= MOST_WAITING:
            return False
        call = event_id, asyncio.get_running_loop().create_future()
        self._calls.setdefault(user_id, []).append(call)
        self._count += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(call[1], timeout)
                return True
            return False
        finally:
            self._count -= 1
            calls = self._calls[user_id]
            calls.remove(call)
            if not calls:
                del self._calls[user_id]

    def arrived(self, bags: Mapping[str, Bag]) -> None:
        """Wake the calls that these bags answer."""
        for user_id in self._calls.keys() & bags.keys():
            for event_id, call in self._calls[user_id]:
                if not call.done() and has(bags[user_id], event_id):
                    call.set_result(None)


class Feed:
    """What changed last: the newest change of each user, of `KEPT` users. All readers share it."""

    def __init__(self) -> None:
        self._changes: OrderedDict[str, tuple[int, Change]] = OrderedDict()  # with their numbers, the newest last
        self._number = 0
        self._more = asyncio.Event()  # is set, and replaced, with each change

    def add(self, changes: Iterable[Change]) -> None:
        """Tell all readers."""
        for change in changes:
            self._number += 1
            self._changes[change.user_id] = self._number, change
            self._changes.move_to_end(change.user_id)
        while len(self._changes) > KEPT:
            self._changes.popitem(last=False)
        self._more.set()
        self._more = asyncio.Event()

    @asynccontextmanager
    async def reader(self) -> AsyncGenerator[AsyncIterator[Sequence[Change]]]:
        """Changes from now on, in groups, oldest first."""
        groups = self._groups(self._number)
        try:
            yield groups
        finally:
            await groups.aclose()

    async def _groups(self, seen: int) -> AsyncGenerator[Sequence[Change]]:
        while True:
            more = self._more
            if self._number == seen:
                await more.wait()
            group: list[Change] = []
            for number, change in reversed(self._changes.values()):
                if number <= seen:
                    break
                group.append(change)
            seen = self._number
            yield group[::-1]
