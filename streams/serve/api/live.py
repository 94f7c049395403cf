"""The clients that follow what the whole system does. All share one message for each look at the brokers."""

from contextlib import ExitStack

import msgspec

from streams.serve.api.seats import Seats
from streams.serve.api.subscribers import Subscriber
from streams.serve.interface import Overviews
from streams.serve.overview.types import Now

_encode = msgspec.json.Encoder().encode


class Live:
    """All open streams of the overview."""

    def __init__(self, overview: Overviews, seats: Seats) -> None:
        """`seats`: how many streams may be open."""
        self._overview = overview
        self._seats = seats
        self._open: set[Subscriber] = set()
        self._told = ExitStack()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, caller: str) -> Subscriber:
        """Open a stream, which begins with the newest look. Raises Problem if there are too many. `caller`: name of the token."""
        self._seats.take(caller)
        if not self._open:
            self._told.enter_context(self._overview.told(self._send))
        subscriber = Subscriber(caller)
        self._open.add(subscriber)
        subscriber.put(_message(self._overview.now))
        return subscriber

    def close(self, subscriber: Subscriber) -> None:
        """Close a stream."""
        self._open.discard(subscriber)
        self._seats.leave(subscriber.caller)
        if not self._open:
            self._told.close()

    def close_all(self) -> None:
        """Close all streams: the worker stops."""
        for subscriber in self._open:
            subscriber.drop()

    def _send(self, now: Now) -> None:
        message = _message(now)
        for subscriber in list(self._open):
            subscriber.put(message)


def _message(now: Now) -> bytes:
    return b"event: now\ndata: " + _encode(now) + b"\n\n"
