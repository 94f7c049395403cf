"""Shares features between embed workers: publishes what this one makes, and follows what others make."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from time import monotonic

from streams.features.follower import Follower
from streams.features.records import Features, encode_features, features_key
from streams.features.taking import Own
from streams.kafka.records import Outgoing

FLOOD = 16  # pictures in `FLOOD_TIME` seconds from which on a send waits for more
FLOOD_TIME = 0.25  # seconds
PAUSE = 0.1  # seconds from the start of a send to that of the next in a flood, so that each takes several pictures
PATIENCE = 60.0  # seconds after a start for which a picture that is not cached may wait for the features of others

Send = Callable[[list[Outgoing]], Awaitable[object]]
"""Sends records to the topic, and waits for the broker. Raises DeliveryError."""


class Sharing:
    """What the embedding cache has of `picture-features`."""

    def __init__(self, send: Send, own: Own, follower: Follower) -> None:
        self._send = send
        self._own = own
        self._follower = follower
        self._started = monotonic()
        self._waiting: list[tuple[Outgoing, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._next_send = 0.0
        self._arrivals: deque[float] = deque(maxlen=FLOOD)  # of the last pictures

    async def caught_up(self, patience: float | None = None) -> None:
        """Wait until the topic was read to its end once, or cannot be read.

        Args:
            patience: seconds after the start for which this waits at most. None: `PATIENCE`.
        """
        event = self._follower.caught_up
        if not event.is_set():
            left = self._started + (PATIENCE if patience is None else patience) - monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), max(left, 0) if left < inf else None)

    async def publish(self, url: str, rows: Mapping[str, bytes], *, now: float) -> None:
        """Publish features of a picture, by version, and wait until the broker has them. Raises DeliveryError."""
        loop, made_at = asyncio.get_running_loop(), int(now * 1000)
        self._arrivals.append(monotonic())
        results: list[asyncio.Future[None]] = []
        for version, row in rows.items():
            key = features_key(version, url)
            self._own.add(key, made_at)
            result: asyncio.Future[None] = loop.create_future()
            self._waiting.append(((key, encode_features(Features(made_at, row)), ()), result))
            results.append(result)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_waiting())
        await asyncio.gather(*results)

    async def _send_waiting(self) -> None:
        """Send what waits, together, until nothing does."""
        while self._waiting:
            now = monotonic()
            flood = len(self._arrivals) == FLOOD and now - self._arrivals[0] < FLOOD_TIME
            if flood and (early := self._next_send - now) > 0:
                await asyncio.sleep(early)
            self._next_send = monotonic() + PAUSE
            batch, self._waiting = self._waiting, []
            try:
                await self._send([record for record, _ in batch])
            except Exception as error:  # noqa: BLE001 -- whoever waits raises it
                for _, result in batch:
                    if not result.done():
                        result.set_exception(error)
            else:
                for _, result in batch:
                    if not result.done():
                        result.set_result(None)
