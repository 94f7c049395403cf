"""The open streams of changes, and the one reader of the replica that they share.

The reader sends each stream the changes of a quarter of a second at once. What a stream takes is bounded: the messages are shared, and
a client that reads too slowly is dropped.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from contextlib import suppress

import msgspec

from streams import metrics
from streams.serve.api.problems import Problem
from streams.serve.api.types import StreamedChange, StreamedChanges
from streams.serve.interface import Bags, Change

INTERVAL = 0.25  # seconds of changes in one message
LISTED = 100  # changes in one message; `count` says how many there were
PENDING = 10_000  # users whose changes wait for the next message
QUEUED = 20  # messages that wait for a client: five seconds

_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)


class Subscriber:
    """One open stream."""

    def __init__(self, user_id: str | None, *, ids: bool) -> None:
        """`user_id`: the only user who counts; None for all. `ids`: whether messages name users."""
        self.user_id = user_id
        self.ids = ids
        self.dropped = False
        self._messages: deque[bytes] = deque()
        self._ready = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Queue a message. A subscriber that is too far behind is dropped."""
        if len(self._messages) >= QUEUED:
            self.drop()
        else:
            self._messages.append(message)
            self._ready.set()

    def drop(self) -> None:
        """End the stream."""
        self.dropped = True
        self._messages.clear()
        self._ready.set()

    async def next(self, timeout: float) -> bytes | None:
        """The next message; None if there is none within `timeout` seconds, or the stream ends."""
        if not self._messages and not self.dropped:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._ready.wait()
        self._ready.clear()
        return self._messages.popleft() if self._messages else None


class Streams:
    """All open streams, and the one reader that they share."""

    def __init__(self, bags: Bags, limit: int) -> None:
        """`limit`: streams that may be open."""
        self._bags = bags
        self._limit = limit
        self._open: set[Subscriber] = set()
        self._reader: asyncio.Task[None] | None = None
        self._secret = secrets.token_bytes(16)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, user_id: str | None, *, ids: bool) -> Subscriber:
        """Open a stream. Raises Problem if there are too many."""
        if len(self._open) >= self._limit:
            raise Problem("too_many_streams", f"{self._limit} streams are open (SERVE_STREAMS)", retry_after=10)
        subscriber = Subscriber(user_id, ids=ids)
        self._open.add(subscriber)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        metrics.serve_streams.set(len(self._open))
        return subscriber

    def close(self, subscriber: Subscriber) -> None:
        """Close a stream. The last one stops the reader."""
        self._open.discard(subscriber)
        metrics.serve_streams.set(len(self._open))
        if not self._open and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def close_all(self) -> None:
        """Close all streams: the worker stops."""
        for subscriber in self._open:
            subscriber.drop()

    async def _read(self) -> None:
        """Follow the replica, and send what changed every quarter of a second."""
        try:
            async with self._bags.changes() as groups:
                pending: dict[str, Change] = {}
                sender = asyncio.create_task(self._send(pending))
                try:
                    async for group in groups:
                        for change in group:
                            pending.pop(change.user_id, None)
                            pending[change.user_id] = change
                        while len(pending) > PENDING:
                            del pending[next(iter(pending))]
                finally:
                    sender.cancel()
        except asyncio.CancelledError:
            raise
        except Exception:  # a defect of ours: clients connect again
            logger.exception("the changes of the bags cannot be followed")
        self.close_all()

    async def _send(self, pending: dict[str, Change]) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            if not pending:
                continue
            made: dict[bool, bytes] = {}
            for one in list(self._open):
                if one.user_id is None:
                    if one.ids not in made:
                        made[one.ids] = self._message(list(pending.values()), ids=one.ids)
                    one.put(made[one.ids])
                elif one.user_id in pending:
                    one.put(self._message([pending[one.user_id]], ids=True))
            pending.clear()

    def _message(self, changes: list[Change], *, ids: bool) -> bytes:
        listed = [
            StreamedChange(one.user_id if ids else self._pseudonym(one.user_id), one.partition, one.offset)
            for one in changes[-LISTED:]
        ]
        return b"event: changes\ndata: " + _encode(StreamedChanges(count=len(changes), changes=listed)) + b"\n\n"

    def _pseudonym(self, user_id: str) -> str:
        """A name for a user that is the same for as long as the worker runs, and tells nothing."""
        return "user-" + hashlib.blake2b(user_id.encode(), key=self._secret, digest_size=6).hexdigest()
