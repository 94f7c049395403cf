"""The bags move to other numbers of partitions under load, while the command and the workers are killed at any moment."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from streams.kafka.topics import ensure_topics
from streams.settings import read_settings
from tests.faults.breaks import broken_by
from tests.faults.process import Worker
from tests.faults.stage import Stage

PARTITIONS = 6  # instead of 4
KILLS = 6
RATE = 60  # events/s: what the workers cannot keep up with delays the drain
MOVED = 600.0  # seconds for the command


@broken_by("copy-once")
def test_a_resize_and_a_rollback_whose_every_step_is_killed(stage: Stage) -> None:
    workers = _started(stage, "embed", "embed", "profile", "profile")
    with stage.load(rate=RATE):
        stage.flow(300)
        _resized_at_last(stage, workers, "--partitions", str(PARTITIONS))
        stage.ready()
        stage.flow(300)
        _resized_at_last(stage, workers, "--rollback")
        stage.ready()
        stage.flow_everywhere()
    stage.verdict("a resize and a rollback, each step killed")


@broken_by("copy-once")
def test_a_resize_without_a_fault(stage: Stage) -> None:
    workers = _started(stage, "embed", "profile", "profile")
    with stage.load(rate=RATE):
        stage.flow(300)
        for arguments in (("--partitions", str(PARTITIONS)), ("--rollback",)):
            _finished(stage, workers[0], *arguments)
            stage.flow_everywhere()
    stage.verdict("a resize and a rollback")


def _started(stage: Stage, *kinds: str) -> list[Worker]:
    """Start workers with copies of each other's bags, and the tap on the topics of the resize before anything is on them."""
    stage.settings["standby"] = True
    workers = [stage.worker(kind, ready=False) for kind in kinds]
    stage.ready()
    settings = read_settings(broker=stage.broker.bootstrap, partitions=PARTITIONS)
    asyncio.run(ensure_topics(settings.of_generation(2)))
    stage.tap.follow(2)
    return workers


def _resized_at_last(stage: Stage, workers: Sequence[Worker], *arguments: str) -> None:
    """Kill the command, and a worker, at any moment, again and again, and then let the command come to its end."""
    for _ in range(KILLS):
        killed = workers[0].begin("topics", "resize", *arguments)
        stage.elapse(stage.random.uniform(2.0, 10.0))
        killed.kill()
        killed.communicate()
        victim = stage.random.choice(workers)
        victim.kill()
        victim.start()
    stage.ready()
    _finished(stage, workers[0], *arguments)


def _finished(stage: Stage, worker: Worker, *arguments: str) -> None:
    running, begun = worker.begin("topics", "resize", *arguments), monotonic()
    try:
        stage.wait_for(lambda: running.poll() is not None, MOVED, "moved")
    finally:
        running.kill()
    said, _ = running.communicate()
    assert running.returncode == 0, said
    stage.notes.append(f"{arguments[0]} in {monotonic() - begun:.1f} s")
