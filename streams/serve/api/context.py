"""What the handlers share: the parts of the serve worker, the limits, and threads for what takes longer than a millisecond."""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web
from msgspec import Struct

from streams.exceptions import StateError
from streams.serve.api.access import ANYBODY, Access
from streams.serve.api.access_log import AccessLog
from streams.serve.api.changes import Streams
from streams.serve.api.duplicates import DuplicateSearch
from streams.serve.api.live import Live
from streams.serve.api.problems import Problem
from streams.serve.api.scoring import Scoring
from streams.serve.api.seats import Seats
from streams.serve.api.subscribers import Subscriber, send_events
from streams.serve.api.tastes import TasteCount
from streams.serve.api.tokens import Scope
from streams.serve.interface import Catalogue, Held, NotServed, Serving
from streams.settings import Settings

T = TypeVar("T")
Q = TypeVar("Q", bound=Struct)
B = TypeVar("B")

MAX_WAITING = 32  # requests that wait for a thread, or have one; each has a bounded input
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a request may take."""

    body_seconds: float = 20.0  # until a body has arrived
    upload_seconds: float = 60.0  # until uploaded pictures have arrived
    upload_bytes: int = 64 * 1024**2  # of the pictures of a request
    picture_bytes: int = 20 * 1024**2  # of one picture
    bodies_bytes: int = 128 * 1024**2  # of all bodies that are being read
    streams: int = 100
    token_streams: int = 50  # of one token
    threads: int = 2

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits of the settings."""
        return cls(
            upload_bytes=settings.serve_upload_bytes,
            picture_bytes=settings.fetch_max_bytes,
            bodies_bytes=2 * settings.serve_upload_bytes,
            streams=settings.serve_streams,
            token_streams=settings.serve_token_streams,
        )


@dataclass(frozen=True)
class Intake:
    """Which events are accepted: as the embed worker does."""

    max_future: float  # seconds that a timestamp may be ahead of the clock
    earliest: int  # the least timestamp, milliseconds since the epoch


class Api:
    """What the handlers answer from."""

    def __init__(
        self,
        serving: Serving,
        access: Access,
        log: AccessLog,
        *,
        intake: Intake,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Wire the parts. `clock`: seconds since the epoch; the others are those of `make_app`."""
        self.serving = serving
        self.access = access
        self.log = log
        self.intake = intake
        self.limits = limits
        self.clock = clock
        self.seats = Seats(limits.streams, limits.token_streams)
        self.streams = Streams(serving.bags, self.seats)
        self.live = Live(serving.overview, self.seats)
        self.scoring = Scoring()
        self._threads = ThreadPoolExecutor(limits.threads, "serve-api")
        self._beside = ThreadPoolExecutor(1, "serve-survey")
        self.tastes = TasteCount(serving, lambda: self.now, self._beside)
        self.duplicates = DuplicateSearch(serving, self._beside)
        self._waiting = 0
        self._room = limits.bodies_bytes

    @property
    def now(self) -> int:
        """The clock, milliseconds since the epoch."""
        return int(self.clock() * 1000)

    @property
    def catalogue(self) -> Catalogue:
        """The items. Raises Problem while they are read from disk."""
        catalogue = self.serving.catalogue
        if not catalogue.ready:
            raise Problem("catalogue_not_ready", f"{len(catalogue):,} items were read from disk so far", retry_after=5)
        return catalogue

    def held(self, user_id: str) -> Held:
        """The bag of a user. Raises Problem."""
        with replica():
            held = self.serving.bags.read(user_id)
        if held.state.age is None:
            raise not_ready(held.state.partition)
        return held

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what takes long beside the event loop. Raises Problem if too many requests wait for it already."""
        if self._waiting >= MAX_WAITING:
            raise Problem("busy", f"{MAX_WAITING} requests are being computed", retry_after=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1

    @contextmanager
    def room(self, size: int) -> Generator[None]:
        """Keep memory for a body of at most `size` bytes. Raises Problem if other bodies have it."""
        if size > self._room:
            raise Problem("busy", "other requests are sending large bodies", retry_after=1)
        self._room -= size
        try:
            yield
        finally:
            self._room += size

    async def close(self) -> None:
        """Stop the threads. What the surveys read is not closed under them."""
        for survey in (self.tastes.survey, self.duplicates.survey):
            survey.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._beside.shutdown, cancel_futures=True)


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """A valid request."""

    api: Api
    request: web.Request
    path: Mapping[str, str]
    query: Q
    body: B
    scopes: frozenset[Scope]
    caller: str = ANYBODY  # the name of the token

    async def stream(self, response: web.StreamResponse, subscriber: Subscriber, scope: Scope) -> None:
        """Send the messages of a subscriber for as long as the caller has the scope."""
        access, request = self.api.access, self.request
        await send_events(request, response, subscriber, self.api.seats, lambda: access.still_permits(request, scope))

    @property
    def user_id(self) -> str:
        return self.path["user_id"]

    @property
    def item_id(self) -> str:
        return self.path["item_id"]


@contextmanager
def replica() -> Generator[None]:
    """Turn errors of the replica into problems."""
    try:
        yield
    except NotServed as error:
        raise Problem("not_served", str(error)) from error
    except StateError as error:
        logger.error("the replica cannot be read: %s", error)  # noqa: TRY400 -- the cause is in the message
        raise Problem("state_unreadable", "the disk of the worker cannot be read", retry_after=5) from error


def not_ready(partition: int) -> Problem:
    """The problem while a partition was not read to its end yet: nobody knows whether a user is unknown."""
    return Problem("not_ready", f"partition {partition} of the bags is being read", retry_after=2)
