"""Profile workers that keep copies of each other's bags: partitions move without a recovery."""

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage


@broken_by("keep-cache")
def test_a_killed_worker_is_replaced_by_its_standby(stage: Stage) -> None:
    stage.settings["standby"] = True
    stage.workers()
    killed = stage.worker("profile")
    with stage.load(rate=300):
        stage.flow(1200)
        stage.flow_everywhere()
        killed.kill()
        stage.flow_everywhere()
        stage.flow(600)
    stage.verdict("kill -9 of a profile worker with a standby")


@broken_by("keep-cache")
def test_workers_that_are_restarted_in_turn_hand_over(stage: Stage) -> None:
    stage.settings["standby"] = True
    _, first = stage.workers()
    second = stage.worker("profile")
    with stage.load(rate=300):
        stage.flow(1200)
        for worker in (first, second, first, second):
            worker.stop()
            stage.flow_everywhere()
            worker.start()
            stage.ready()
            stage.flow(600)
            stage.flow_everywhere()
    stage.verdict("profile workers with standbys restarted in turn")
