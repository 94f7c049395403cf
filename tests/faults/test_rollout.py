"""From one bundle to the next under load, while every step is killed. The bags end as if both bundles had been there from the start."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from model.bundle import Bundle
from tests.bundles import write_sibling
from tests.faults.process import Worker
from tests.faults.stage import Stage
from tests.oracle import Oracle

KILLS = 10


def test_a_rollout_whose_every_step_is_killed(stage: Stage, tmp_path: Path) -> None:
    shipped, sibling = Bundle.load().path, write_sibling(tmp_path / "sibling")
    stage.settings["bundle"] = shipped
    workers = [stage.worker(kind, ready=False) for kind in ("embed", "embed", "profile", "profile")]
    stage.ready()
    with stage.load(rate=150):
        stage.flow(600)
        _restarted(stage, workers, bundle=shipped, next_bundle=sibling)
        _prepared_at_last(stage, workers[0])
        _restarted(stage, workers, bundle=sibling, next_bundle=shipped)
        stage.flow_everywhere()
        _restarted(stage, workers, bundle=shipped, next_bundle=sibling)  # the rollback
        stage.flow_everywhere()
        _restarted(stage, workers, bundle=sibling, next_bundle=shipped)
        stage.flow_everywhere()
    stage.oracle = Oracle(Bundle.load(sibling), stage.oracle._read, next_bundle=stage.oracle.bundle)
    stage.verdict("a rollout and a rollback, each step killed")


def _restarted(stage: Stage, workers: Sequence[Worker], **bundles: Path) -> None:
    """Restart the workers one by one with these bundles. Each is killed twice."""
    for worker in workers:
        worker.system.configure(**bundles)
        worker.kill()
        worker.start()
        stage.elapse(stage.random.uniform(0.2, 2.0))
        worker.kill()
        worker.start()
        stage.ready()


def _prepared_at_last(stage: Stage, worker: Worker) -> None:
    """Kill `rollout prepare` at any moment, again and again, and then let it come to its end, twice."""
    for _ in range(KILLS):
        killed = worker.system.begin("rollout", "prepare")
        stage.elapse(stage.random.uniform(0.3, 4.0))
        killed.kill()
        killed.communicate()
    for _ in range(2):  # the second time for events that were under way between the workers the first time
        running, begun = worker.system.begin("rollout", "prepare"), monotonic()
        stage.wait_for(lambda running=running: running.poll() is not None, 120, "prepared")
        said, _ = running.communicate()
        assert running.returncode == 0, said
        stage.notes.append(f"prepared in {monotonic() - begun:.1f} s")
