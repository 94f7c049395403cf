"""The open streams of changes, and the one reader of the replica that they share.

The reader sends each stream the changes of a quarter of a second at once.
"""

import asyncio
import hashlib
import logging
import secrets

import msgspec

from streams.serve.api.access import ANYBODY
from streams.serve.api.seats import Seats
from streams.serve.api.subscribers import Subscriber
from streams.serve.api.types.stream import StreamedChange, StreamedChanges
from streams.serve.interface import Bags, Change

INTERVAL = 0.25  # seconds of changes in one message
LISTED = 100  # changes in one message; `count` says how many there were
PENDING = 10_000  # users whose changes wait for the next message

_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)


class ChangesSubscriber(Subscriber):
    """One open stream of changes."""

    def __init__(self, user_id: str | None, *, ids: bool, caller: str) -> None:
        """`user_id`: the only user who counts; None for all. `ids`: whether messages name users. `caller`: name of the token."""
        super().__init__(caller)
        self.user_id = user_id
        self.ids = ids


class Streams:
    """All open streams, and the one reader that they share."""

    def __init__(self, bags: Bags, seats: Seats) -> None:
        """`seats`: how many streams may be open."""
        self._bags = bags
        self._seats = seats
        self._open: set[ChangesSubscriber] = set()
        self._reader: asyncio.Task[None] | None = None
        self._secret = secrets.token_bytes(16)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, user_id: str | None, *, ids: bool, caller: str = ANYBODY) -> ChangesSubscriber:
        """Open a stream. Raises Problem if there are too many."""
        self._seats.take(caller)
        subscriber = ChangesSubscriber(user_id, ids=ids, caller=caller)
        self._open.add(subscriber)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        return subscriber

    def close(self, subscriber: ChangesSubscriber) -> None:
        """Close a stream. The last one stops the reader."""
        self._open.discard(subscriber)
        self._seats.leave(subscriber.caller)
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
