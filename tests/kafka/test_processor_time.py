"""What the processors do for an event, beside a bare Faust application in the same minute: guards against a change that costs.

A rate says little on a machine that others share, and processor time differs from machine to machine; the ratio of the two
does so much less. `python -m tests.benchmarks.throughput` measures in earnest.
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

RECORDED = 0.35  # the workers' processor time for an event / the bare application's, by this test
ALLOWED = 1.25  # times that: more than rounds differ by
EVENTS, ROUNDS = 4000, 2


async def test_an_event_costs_no_more_processor_time_beside_a_bare_application_than_it_did(system: System) -> None:
    folder: Path = system.folder / "processor-time"
    folder.mkdir()
    used = {"ours": 0.0, "bare": 0.0}  # milliseconds for an event, summed over the rounds
    with picture_server(CATALOGUE) as base:
        stand = Stand(system.broker, folder, Shop(base, users=100), Bundle.load())
        for _ in range(ROUNDS):
            for name in used:
                used[name] += (await stand.round(PEERS[name], EVENTS)).used
    ratio = used["ours"] / used["bare"]
    assert ratio < RECORDED * ALLOWED, (
        f"the workers use {used['ours'] / ROUNDS:.2f} ms for an event, the bare application {used['bare'] / ROUNDS:.2f}: "
        f"{ratio:.2f} times as much, and {RECORDED:.2f} is recorded"
    )
    print(f"processor time beside a bare application: {ratio:.2f}")  # noqa: T201 -- for whoever records it anew
