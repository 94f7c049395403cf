"""Workers join, leave, freeze and continue."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.process import Worker
from tests.faults.stage import Stage

FROZEN = 12.0  # seconds: twice the session timeout
BURSTS = 10  # attempts, at most, to freeze the worker with rows in hand


@pytest.mark.short
@broken_by("keep-cache")
def test_one_profile_worker_then_three_then_one(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300):
        stage.flow(600)
        second = stage.worker("profile")
        third = stage.worker("profile")
        stage.flow_everywhere()
        stage.flow(600)
        second.stop()
        stage.flow_everywhere()
        third.stop()
        stage.flow_everywhere()
        stage.flow(600)
    stage.verdict("1 -> 3 -> 1 profile workers")


@broken_by("acknowledge-early")
def test_one_embed_worker_then_two_then_one(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300):
        stage.flow(600)
        second = stage.worker("embed")
        stage.flow_everywhere()
        stage.flow(600)
        second.stop()
        stage.flow_everywhere()
        stage.flow(600)
    stage.verdict("1 -> 2 -> 1 embed workers")


@broken_by("keep-cache")
def test_profile_workers_join_and_leave_while_there_is_a_backlog(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=7000):  # faster than two cores can process
        stage.flow(300)
        for _ in range(2):
            guest = stage.worker("profile")
            stage.flow_everywhere()
            guest.stop()
            stage.flow_everywhere()
    stage.verdict("profile workers join and leave over a backlog")


@broken_by("keep-cache")
def test_partitions_move_to_another_worker_and_back(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300):
        for _ in range(3):
            stage.flow(600)
            guest = stage.worker("profile")
            stage.flow_everywhere()
            stage.flow(600)  # the guest changes bags that the first worker has in its cache
            guest.stop()
            stage.flow_everywhere()
    stage.verdict("partitions move to another worker and back, 3 times")


def come_back(stage: Stage, zombie: Worker) -> None:
    """Continue a frozen worker after other workers have taken its partitions."""
    stage.elapse(FROZEN)
    stage.flow_everywhere()
    zombie.thaw()
    stage.flow(600)
    stage.ready()


@broken_by("trust-the-dead")
def test_a_frozen_profile_worker_continues(stage: Stage) -> None:
    """First at the worst moment, with rows in hand that are outdated when it sends them; then at any moment."""
    embed, _ = stage.workers()
    zombie = stage.worker("profile", start=False)
    zombie.start("freeze-before-rows:20")
    with stage.load(rate=300):
        for _ in range(BURSTS):
            stage.flow(300)
            if zombie.frozen:
                break
            embed.freeze()
            stage.elapse(1.0)
            embed.thaw()  # the waiting events arrive at once
        stage.wait_for(lambda: zombie.frozen, 60, "frozen with rows in hand")
        come_back(stage, zombie)
        zombie.freeze()
        come_back(stage, zombie)
    stage.verdict("profile worker frozen for 12 s (zombie)")


@broken_by("acknowledge-early")
def test_a_frozen_embed_worker_continues(stage: Stage) -> None:
    zombie, _ = stage.workers()
    stage.worker("embed")
    with stage.load(rate=300):
        for _ in range(2):
            stage.flow(600)
            zombie.freeze()
            come_back(stage, zombie)
    stage.verdict("embed worker frozen for 12 s (zombie)")
