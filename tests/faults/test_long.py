"""The long run: workers are killed at random times until all events are produced. Memory must not grow.

FAULTS_EVENTS and FAULTS_RATE set the number of events and events/s.
"""

import os

import pytest

from tests.faults.stage import Stage

EVENTS = int(os.environ.get("FAULTS_EVENTS", "200000"))
RATE = float(os.environ.get("FAULTS_RATE", "400"))
PAUSES = (5.0, 15.0)  # seconds between two kills
READY = 60.0  # seconds
GROWTH = 1.25  # maximum ratio of the resident memory in the last quarter to that in the first


@pytest.mark.long
def test_a_long_run_of_random_kills(stage: Stage) -> None:
    workers = stage.workers()
    memory: dict[str, list[float]] = {worker.kind: [] for worker in workers}
    kills = 0
    with stage.load(rate=RATE, count=EVENTS) as load:
        while load.producing:
            stage.elapse(stage.random.uniform(*PAUSES))
            victim = stage.random.choice(workers)
            for worker in workers:
                memory[worker.kind].append(worker.memory)
            victim.restart()
            kills += 1
    # A process that has just started does not handle SIGTERM yet.
    stage.wait_for(lambda: all(worker.ready for worker in workers), READY, "ready again")
    stage.notes.append(f"{kills} kills")
    stage.notes += [
        f"{kind} {sum(first) / len(first):.0f} -> {sum(last) / len(last):.0f} MB"
        for kind, (first, last) in ((kind, quarters(sizes)) for kind, sizes in memory.items())
    ]
    stage.verdict(f"{EVENTS:,} events, kills every {PAUSES[0]:.0f} to {PAUSES[1]:.0f} s")
    for kind, sizes in memory.items():
        first, last = quarters(sizes)
        assert sum(last) / len(last) < GROWTH * sum(first) / len(first), f"memory of the {kind} worker grows: {sizes}"


def quarters(sizes: list[float]) -> tuple[list[float], list[float]]:
    """The first and the last quarter of a list."""
    length = max(1, len(sizes) // 4)
    return sizes[:length], sizes[-length:]
