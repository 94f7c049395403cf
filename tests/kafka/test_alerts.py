"""Each alert of `deploy/` is made to fire by the fault that it is for: real workers, real Kafka, a real Prometheus."""

import json
import sys
import time
from collections.abc import Iterator

import pytest

from tests.deploy.dashboards import files
from tests.kafka.monitored import FACTOR, FAULTS, Fault, Stack, watched
from tests.kafka.prometheus import LONGEST, PROGRAM, SCRAPE, WHY_NOT, filled_in
from tests.kafka.system import System, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT),
]

# Panels that have nothing to show after these faults: of STANDBY, of questions to serve workers, of a catalogue on a topic, of hosts
# that do not answer, and of a cache on disk, which takes minutes to write a file.
BLANK = {
    "Bags read by serve workers a second",
    "Records that a standby copy lacks",
    "Items of the catalogue a second",
    "Requests that fail, by host",
    "Age of the oldest file of the cache",
}
QUIET = 120.0  # seconds until what the fault before has left is over
FIRING = 120.0  # seconds until an alert has fired, on a busy machine
LOOKS_BACK = 900 / FACTOR  # seconds: the longest look of an alert into the past


@pytest.fixture(scope="module")
def stack(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with watched(system, tmp_path_factory.mktemp("monitored")) as stack:
        yield stack


def test_nothing_fires_while_all_is_well(stack: Stack) -> None:
    wait_until(lambda: not stack.prometheus.firing(), QUIET, lambda: str(stack.prometheus.firing()))
    deadline = time.monotonic() + LONGEST + LOOKS_BACK
    while time.monotonic() < deadline:
        assert stack.prometheus.firing() == set()
        time.sleep(1)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_the_alerts_of_a_fault_fire(stack: Stack, fault: Fault) -> None:
    wait_until(lambda: stack.prometheus.firing().isdisjoint(fault.alerts), QUIET)
    with fault.cause(stack):
        if fault.repeat is None:
            fired = stack.prometheus.wait_firing(fault.alerts, FIRING)
        else:
            fired = dict[str, float]()
            begun = time.monotonic()
            while fired.keys() != set(fault.alerts):
                assert time.monotonic() - begun < FIRING
                fault.repeat(stack)
                fired |= dict.fromkeys(stack.prometheus.firing() & set(fault.alerts), time.monotonic() - begun)
    told = ", ".join(f"{name} after {seconds:.0f} s" for name, seconds in fired.items())
    sys.stdout.write(f"{fault.what}: {told}\n")


def test_the_dashboards_have_answers_to_their_queries(stack: Stack) -> None:
    blank = {
        panel["title"]
        for text in files().values()
        for panel in json.loads(text)["panels"]
        for target in panel["targets"]
        if not stack.prometheus.over(filled_in(target["expr"]), stack.begun, time.time(), 5 * SCRAPE)
    }
    assert blank <= BLANK
