"""Hostile input through a running worker: each case becomes its dead letter, and no internal server is called.

The cases are the corpora of the fetcher and the decoder, all at once: URLs, redirects to them, servers, and files. The servers are
on 127.0.0.2, the only internal address that the worker may call. On 127.0.0.1 and ::1 is a canary.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import pytest

from streams.embed.decoding.pool import DECODERS
from streams.exceptions import EventError
from streams.messages import parse_interaction
from streams.settings import Settings
from tests.kafka.system import Record, System, wait_until
from tests.model.hostile_pictures import FORMATS, hostile_pictures, sound
from tests.model.unbounded_pictures import UNBOUNDED
from tests.streams.web import test_hostile_servers, test_hostile_urls
from tests.streams.web.servers import Talk, canary, talking
from tests.usage import MB, children, peak_resident_mb, reset_peak, resident_mb

INSIDE = "127.0.0.2"
GROWTH_MB = 100
SETTLED = 240.0  # seconds: on a busy machine the decoders get little processor time
FETCHED = 15.0  # seconds: servers of this process, and a worker without much processor time, have to end before
LARGEST = 7_000_000  # bytes; some of the odd but valid files are almost as large


class Case(NamedTuple):
    """An event with a picture of a stranger's choice. The name is also the user id."""

    name: str
    url: str  # {server} is the stranger's server, {port} the port of the canary
    reason: str | None  # of the dead letter; None if the picture is valid
    talk: Talk | None = None  # what the server sends
    location: str | None = None  # or where the server redirects to

    def event(self, server: str, port: int) -> dict[str, object]:
        return {
            "event_id": f"event of {self.name}",
            "user_id": self.name,
            "item_id": "thing",
            "type": "view",
            "timestamp": 1_700_000_000_000,
            "image_url": self.url.replace("{server}", server).replace("{port}", str(port)),
        }

    def server(self, port: int) -> Talk | None:
        """What the server sends; None if there is no server."""
        if self.location is None:
            return self.talk
        return test_hostile_urls.redirecting(self.location.replace("{port}", str(port)))


def serves(name: str, data: bytes, reason: str | None) -> Case:
    answer = test_hostile_servers.OK + b"Content-Length: %d\r\n\r\n" % len(data) + data
    return Case(name, "{server}", reason if data else "empty_body", test_hostile_servers.says(answer))


URLS = [Case(f"URL: {name}", url, reason) for name, (url, reason) in test_hostile_urls.HOSTILE.items()]
REDIRECTS = [
    Case(f"redirect: {name}", "{server}", reason, location=location)
    for name, (location, reason) in test_hostile_urls.REDIRECTED.items()
]
SERVERS = [
    Case(f"server: {name}", "{server}", reason, talk)
    for name, (talk, reason, _) in test_hostile_servers.HOSTILE.items()
    if name != "announces more than is allowed"  # one byte more than the smaller limit of the other test
]
REQUESTS = [*URLS, *REDIRECTS, *SERVERS]


@cache
def files() -> list[Case]:
    """Hostile files. They take seconds to make, so that nobody makes them who only looks for tests."""
    costly = [serves(f"file: {name}", made(), "picture_too_costly") for name, made in UNBOUNDED.items()]
    return [serves(f"file: {name}", *file) for name, file in hostile_pictures().items()] + costly


def good() -> list[Case]:
    """Pictures that are as they should be."""
    return [serves(f"sound {name}", sound(name), None) for name in FORMATS]


@dataclass
class Outcome:
    """What the topics and the worker held in the end."""

    port: int = 0
    letters: dict[str, list[Record]] = field(default_factory=dict[str, list[Record]])  # by user
    recommended: set[str] = field(default_factory=set[str])  # users
    connections: int = -1
    lag: int = -1
    grown_mb: float = -1.0
    decoders_mb: float = -1.0  # the largest peak of those that are left
    decoders: int = -1
    restarts: int = -1  # of the embed worker
    seconds: float = -1.0


async def run(system: System, cases: list[Case], port: int) -> None:
    """Serve and produce the cases, and wait until the worker has finished them."""
    async with AsyncExitStack() as stack:
        events: list[dict[str, object]] = []
        for case in cases:
            talk = case.server(port)
            events.append(case.event(await stack.enter_async_context(talking(talk, INSIDE)) if talk else "", port))
        await system.produce(events)
        await system.settled(timeout=SETTLED)


async def follow(system: System, found: Outcome) -> None:
    pid = system.worker_pid("embed")
    await run(system, good(), found.port)
    reset_peak(pid)
    before = resident_mb(pid)
    started = time.monotonic()
    await run(system, [*REQUESTS, *files()], found.port)
    found.seconds = time.monotonic() - started
    found.grown_mb = peak_resident_mb(pid) - before
    wait_until(lambda: len(children(pid)) == DECODERS, message=lambda: f"decoders: {children(pid)}")
    found.decoders_mb = max(peak_resident_mb(child) for child in children(pid))
    found.decoders = len(children(pid))
    found.restarts = int(system.worker_pid("embed") != pid)
    found.lag = await system.lag()
    for letter in await system.read("user-interactions-dlq"):
        found.letters.setdefault((letter.key or b"").decode(), []).append(letter)
    found.recommended = {one["user_id"] for one in await system.recommendations()}


@pytest.fixture(scope="module")
def outcome(system: System) -> Outcome:
    found = Outcome()
    with canary() as bird:
        found.port = bird.port
        system.configure(
            fetch_allow_networks=f"{INSIDE}/32",
            fetch_ports=f"80,443,{bird.port}",
            fetch_max_bytes=LARGEST,
            fetch_timeout=FETCHED,
            fetch_attempts=2,
            decoder_seconds=2,
        )
        with system.workers():
            asyncio.run(follow(system, found))
        found.connections = bird.connections
    return found


def reasons(case: Case, port: int) -> set[str]:
    """The reasons for which the event may be refused."""
    assert case.reason
    event = case.event("http://192.0.2.1/", port)
    try:
        parse_interaction(System.encoded(event), now=time.time(), max_future=0)
    except EventError as error:  # text that is not valid in a message is refused there
        return {error.reason}
    looked_up = {*test_hostile_urls.NAMES, "port of a name"}  # the result depends on the resolver of this machine
    if case.name.partition(": ")[2] in looked_up:
        return {case.reason, "host_unreachable", "host_unavailable"}
    return {case.reason}


def check(outcome: Outcome, case: Case) -> None:
    """Check that a case became one dead letter with its reason."""
    letters = outcome.letters.get(case.name, [])
    assert len(letters) == 1, f"{case.name}: {len(letters)} dead letters"
    headers = {name.removeprefix("tastestream-"): value for name, value in letters[0].headers.items()}
    assert headers["reason"] in reasons(case, outcome.port), f"{case.name}: {headers['error']}"
    assert "hush" not in headers["error"]
    assert headers["error"].isprintable()


@pytest.mark.parametrize("case", [case for case in REQUESTS if case.reason], ids=lambda case: case.name)
def test_a_hostile_request_becomes_one_dead_letter_with_its_reason(outcome: Outcome, case: Case) -> None:
    check(outcome, case)


def test_each_hostile_file_becomes_one_dead_letter_with_its_reason(outcome: Outcome) -> None:
    refused = [case for case in files() if case.reason]
    assert len(refused) > 100
    for case in refused:
        check(outcome, case)


def test_only_odd_but_valid_pictures_are_recommended(outcome: Outcome) -> None:
    hostile = [*REQUESTS, *files()]
    valid = {case.name for case in [*good(), *hostile] if case.reason is None}
    assert outcome.recommended == valid
    assert outcome.letters.keys() == {case.name for case in hostile} - valid


def test_no_internal_server_is_called(outcome: Outcome) -> None:
    assert outcome.connections == 0


def test_all_events_are_committed(outcome: Outcome) -> None:
    assert outcome.lag == 0


def test_the_memory_of_the_worker_stays_bounded(outcome: Outcome) -> None:
    assert 0 <= outcome.grown_mb < GROWTH_MB


def test_no_file_restarts_the_worker(outcome: Outcome) -> None:
    assert outcome.restarts == 0


def test_the_memory_of_the_decoders_stays_below_their_limit(outcome: Outcome) -> None:
    assert outcome.decoders == DECODERS
    assert 0 < outcome.decoders_mb < Settings.model_fields["decoder_memory"].default / MB
