"""A guard against changes that make the workers slower: their processor time for an event, relative to a bare Faust application.

Rates vary on a shared machine, and processor time varies between machines. The ratio of two processor times, measured in the
same minute, varies much less. `python -m tests.benchmarks.throughput` measures precisely.
"""

from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from tests.benchmarks.throughput.peers import PEERS
from tests.benchmarks.throughput.stand import Stand
from tests.benchmarks.throughput.workload import Shop
from tests.kafka.system import System, picture_server

pytestmark = pytest.mark.alone

# Least processor time of the workers for an event, divided by that of the bare application, as measured by this test: 0.30 on one
# machine, 0.44 on another with the same code. The larger one is recorded.
RECORDED = 0.44
ALLOWED = 1.25  # factor above RECORDED; rounds differ by less
EVENTS, ROUNDS = 3000, 3


async def test_the_processor_time_of_an_event_relative_to_a_bare_application_does_not_grow(system: System) -> None:
    folder: Path = system.folder / "processor-time"
    folder.mkdir()
    used: dict[str, list[float]] = {"ours": [], "bare": []}  # milliseconds for an event, by round
    with picture_server(CATALOGUE) as base:
        stand = Stand(system.broker, folder, Shop(base, users=100), Bundle.load())
        for _ in range(ROUNDS):
            for name, rounds in used.items():
                rounds.append((await stand.round(PEERS[name], EVENTS)).used)
    ours, bare = map(min, used.values())  # whatever else the machine does only adds to the processor time of a round
    ratio = ours / bare
    assert ratio < RECORDED * ALLOWED, (
        f"the workers use {ours:.2f} ms for an event, and the bare application {bare:.2f} ms: "
        f"a ratio of {ratio:.2f}, where {RECORDED:.2f} is recorded"
    )
    print(f"processor time relative to a bare application: {ratio:.2f}")  # noqa: T201 -- to update RECORDED
