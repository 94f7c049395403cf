"""kill -9, again and again, under load."""

import pytest

from tests.faults.stage import Stage

KILLS = 10


@pytest.mark.short
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


def test_ten_kills_of_the_embed_worker(stage: Stage) -> None:
    embed, _ = stage.workers()
    with stage.load(rate=300):
        for _ in range(KILLS):
            stage.flow(stage.random.randrange(200, 900))
            embed.restart()
            stage.flow_everywhere()
    stage.verdict("kill -9 of the embed worker, 10 times")


def test_ten_kills_of_the_profile_worker(stage: Stage) -> None:
    _, profile = stage.workers()
    with stage.load(rate=300):
        for _ in range(KILLS):
            stage.flow(stage.random.randrange(200, 900))
            profile.restart()
            stage.flow_everywhere()
    stage.verdict("kill -9 of the profile worker, 10 times")


def test_ten_kills_of_both_workers(stage: Stage) -> None:
    embed, profile = stage.workers()
    with stage.load(rate=300):
        for _ in range(KILLS):
            stage.flow(stage.random.randrange(200, 900))
            embed.kill()
            profile.restart()
            embed.start()
            stage.flow_everywhere()
    stage.verdict("kill -9 of both workers, 10 times")
