"""Workers are killed with SIGKILL, repeatedly, under load."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage

KILLS = 10


@pytest.mark.short
@broken_by("acknowledge-early")
def test_a_kill_of_both_workers(stage: Stage) -> None:
    embed, profile = stage.workers()
    with stage.load(rate=300):
        stage.flow(600)
        embed.kill()
        profile.kill()
        embed.start()
        profile.start()
        stage.flow_everywhere()
    stage.verdict("kill -9 of both workers")


@pytest.mark.parametrize(
    "victims",
    [
        pytest.param("the embed worker", marks=broken_by("acknowledge-early")),
        pytest.param("the profile worker", marks=broken_by("skip-changelog:5")),
        pytest.param("both workers", marks=broken_by("drop-output:5")),
    ],
)
def test_ten_kills(stage: Stage, victims: str) -> None:
    embed, profile = stage.workers()
    chosen = {"the embed worker": [embed], "the profile worker": [profile], "both workers": [embed, profile]}[victims]
    with stage.load(rate=300):
        for _ in range(KILLS):
            stage.flow(stage.random.randrange(200, 900))
            for worker in chosen:
                worker.kill()
            for worker in chosen:
                worker.start()
            stage.flow_everywhere()
    stage.verdict(f"kill -9 of {victims}, 10 times")
