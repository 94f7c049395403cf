"""Workers get SIGTERM under load, or their consumer stalls."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.process import STOP
from tests.faults.stage import Stage

RATE = 300
COMMIT_INTERVAL = 1.0  # seconds; the default


@broken_by("acknowledge-early")
@pytest.mark.parametrize("kind", ["embed", pytest.param("profile", marks=pytest.mark.short)])
def test_sigterm_under_load(stage: Stage, kind: str) -> None:
    embed, profile = stage.workers()
    worker = embed if kind == "embed" else profile
    with stage.load(rate=RATE):
        stage.flow(900)
        code, seconds = worker.stop()
        worker.start()
        stage.flow_everywhere()
    row = stage.verdict(f"SIGTERM of the {kind} worker under load")
    assert code == 0
    assert seconds < STOP
    assert row.duplicates <= RATE * COMMIT_INTERVAL, "only events since the last commit are duplicated"


@broken_by("no-watchdog")
@pytest.mark.parametrize("kind", ["embed", "profile"])
def test_a_stalled_consumer_ends_its_worker(stage: Stage, kind: str) -> None:
    stage.settings["stall_timeout"] = 15
    embed, profile = stage.workers()
    worker = embed if kind == "embed" else profile
    with stage.load(rate=RATE):
        stage.flow(600)
        said = len(worker.log)
        worker.restart("freeze-consumer:3")
        stage.wait_for(lambda: bool(worker.crashes), 60, "stopped by its watchdog")
        stage.flow_everywhere()
    assert "stall" in worker.log[said:]
    stage.verdict(f"the {kind} worker's consumer freezes")
    assert worker.crashes == [1]
