"""An exception in an agent crashes its worker. The restarted worker loses no event."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage


@broken_by("swallow-agent-errors")
@pytest.mark.parametrize("kind", ["embed", "profile"])
def test_an_exception_in_an_agent(stage: Stage, kind: str) -> None:
    embed, profile = stage.workers()
    worker = embed if kind == "embed" else profile
    with stage.load(rate=300):
        stage.flow(600)
        said = len(worker.log)
        worker.restart("fail-in-agent:200")
        stage.wait_for(lambda: bool(worker.crashes), 90, "crashed by its agent")
        log = worker.log[said:]
        stage.flow_everywhere()
    stage.verdict(f"an exception in the agent of the {kind} worker")
    assert "crashed: fault point: the agent fails" in log
    assert "could not stop" not in log, "the crashed app stops by itself"
    assert worker.crashes == [1]
