"""Workers that join, leave, and come back from the dead."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.process import Worker
from tests.faults.stage import Stage

FROZEN = 12.0  # seconds: twice the session time-out
GUSTS = 10  # times that events come together, at most, until one of them finds its victim


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
def test_profile_workers_come_and_go_while_there_is_a_backlog(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=7000):  # faster than two cores can keep up with
        stage.flow(300)
        for _ in range(2):
            guest = stage.worker("profile")
            stage.flow_everywhere()
            guest.stop()
            stage.flow_everywhere()
    stage.verdict("profile workers come and go over a backlog")


@broken_by("keep-cache")
def test_a_partition_moves_away_and_comes_back(stage: Stage) -> None:
    stage.workers()
    with stage.load(rate=300):
        for _ in range(3):
            stage.flow(600)
            guest = stage.worker("profile")
            stage.flow_everywhere()
            stage.flow(600)  # the guest changes bags that the first one knows
            guest.stop()
            stage.flow_everywhere()
    stage.verdict("partitions move away and come back, 3 times")


def come_back(stage: Stage, zombie: Worker) -> None:
    """A frozen worker goes on when others have its partitions."""
    stage.elapse(FROZEN)
    stage.flow_everywhere()
    zombie.thaw()
    stage.flow(600)
    stage.ready()


@broken_by("trust-the-dead")
def test_a_profile_worker_stands_still_and_goes_on(stage: Stage) -> None:
    """At its worst moment, with rows in hand that are old when they leave; and at any."""
    embed, _ = stage.workers()
    zombie = stage.worker("profile", start=False)
    zombie.start("freeze-before-rows:20")
    with stage.load(rate=300):
        for _ in range(GUSTS):
            stage.flow(300)
            if zombie.frozen:
                break
            embed.freeze()
            stage.elapse(1.0)
            embed.thaw()  # what has waited comes at once
        stage.wait_for(lambda: zombie.frozen, 5.0, "a worker that stands still with rows in hand")
        come_back(stage, zombie)
        zombie.freeze()
        come_back(stage, zombie)
    stage.verdict("profile worker stopped for 12 s (zombie)")


@broken_by("acknowledge-early")
def test_an_embed_worker_stands_still_and_goes_on(stage: Stage) -> None:
    zombie, _ = stage.workers()
    stage.worker("embed")
    with stage.load(rate=300):
        for _ in range(2):
            stage.flow(600)
            zombie.freeze()
            come_back(stage, zombie)
    stage.verdict("embed worker stopped for 12 s (zombie)")
