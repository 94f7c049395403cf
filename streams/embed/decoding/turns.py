"""Whose picture is decoded next: one of the host that has used the decoders least. No threads, and no I/O.

Pictures of some hosts take seconds to decode, those of others milliseconds. Each host that waits gets the same share of the
decoders' time, so a host with costly pictures waits for its own. This is weighted fair queueing (Demers, Keshav and Shenker,
"Analysis and Simulation of a Fair Queueing Algorithm", 1989), with costs that are known only afterwards: the level is what
a host would have used that has always had its share, and a host starts there.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

KNOWN_HOSTS = 10_000  # hosts that are remembered while none of their pictures is here, some hundred bytes each

T = TypeVar("T")


class _Host(Generic[T]):
    __slots__ = ("decoding", "used", "waiting")

    def __init__(self, used: float) -> None:
        self.used = used  # seconds of decoders
        self.waiting: deque[T] = deque()
        self.decoding = 0  # pictures


class Turns(Generic[T]):
    """Pictures that wait for a decoder, and how long each host has had one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._now = clock()
        self._level = 0.0
        self._hosts: dict[str, _Host[T]] = {}  # those with pictures here
        self._ahead: OrderedDict[str, float] = OrderedDict()  # others that have used more than the level; oldest first

    def put(self, host: str, picture: T) -> None:
        """Have a picture wait."""
        self._advance()
        if host not in self._hosts:
            self._hosts[host] = _Host(max(self._level, self._ahead.pop(host, 0.0)))
        self._hosts[host].waiting.append(picture)

    def take(self) -> tuple[str, T]:
        """The next picture and its host, which holds a decoder from now on. Raises ValueError if none waits."""
        self._advance()
        name, host = min(
            ((name, host) for name, host in self._hosts.items() if host.waiting), key=lambda pair: pair[1].used
        )
        host.decoding += 1
        return name, host.waiting.popleft()

    def end(self, name: str) -> None:
        """Give back a decoder that a host held."""
        self._advance()
        host = self._hosts[name]
        host.decoding -= 1
        if host.decoding or host.waiting:
            return
        del self._hosts[name]
        if host.used > self._level:
            self._ahead[name] = host.used
            if len(self._ahead) > KNOWN_HOSTS:
                self._ahead.popitem(last=False)

    def clear(self) -> list[T]:
        """Take all pictures that wait."""
        rest = [picture for host in self._hosts.values() for picture in host.waiting]
        for host in self._hosts.values():
            host.waiting.clear()
        return rest

    def _advance(self) -> None:
        """Count the time since the last call."""
        before, self._now = self._now, self._clock()
        elapsed, busy = self._now - before, 0
        for host in self._hosts.values():
            host.used += elapsed * host.decoding
            busy += host.decoding
        self._level += elapsed * (busy / len(self._hosts) if self._hosts else 1)
