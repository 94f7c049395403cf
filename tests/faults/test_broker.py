"""The broker is killed under load, down when the workers start, or restarted while they are idle."""

from time import monotonic

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage

OUTAGE = 30.0  # seconds


def output_after_return(stage: Stage) -> None:
    """Start the broker, and note how long it takes until every partition has output again."""
    stage.broker.start()
    back = monotonic()
    stage.flow_everywhere(timeout=120)
    stage.notes.append(f"output {monotonic() - back:.1f} s after the broker's start")


@broken_by("never-reconnect")
def test_the_broker_is_killed_under_load(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300):
        stage.flow(900)
        stage.broker.kill()
        stage.elapse(OUTAGE)
        output_after_return(stage)
        stage.flow(900)
    stage.verdict("broker killed for 30 s under load")


@broken_by("read-from-the-end")
def test_the_broker_is_down_when_the_workers_start(stage: Stage) -> None:
    stage.broker.stop()
    stage.worker("embed", ready=False)
    stage.worker("profile", ready=False)
    stage.elapse(10)
    with stage.load(rate=300):
        output_after_return(stage)
        stage.flow(900)
    stage.verdict("broker down at the start")


@broken_by("never-reconnect")
def test_the_broker_is_restarted_while_the_workers_are_idle(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300, count=900) as load:
        load.wait()
    assert stage.settle()
    stage.broker.stop()
    stage.elapse(10)
    stage.broker.start()
    stage.elapse(5)
    with stage.load(rate=300):
        stage.flow_everywhere(timeout=120)
        stage.flow(900)
    stage.verdict("broker restarted while idle")
