"""The trend is the sum over the bags, whatever died: workers are killed, disks are lost, partitions move, users are erased."""

import shutil
from pathlib import Path

import pytest

from model.bundle import Bundle
from tests.bundles import write_trending
from tests.faults.breaks import broken_by
from tests.faults.load import Mix
from tests.faults.stage import Stage
from tests.oracle import Oracle

WEEKS = Mix(erasures=0.02, duplicates=0.05, old=0.1, step=300_000)  # five minutes from one time to the next


@pytest.fixture
def trending(stage: Stage, tmp_path: Path) -> Stage:
    """A stage whose bundle uses the trend."""
    folder = write_trending(tmp_path / "trending")
    stage.settings |= {"bundle": folder, "trend_interval": 0.5}
    stage.oracle = Oracle(Bundle.load(folder), stage.oracle._read)
    return stage


@pytest.mark.short
@broken_by("count-no-bags")
def test_a_kill_while_bags_are_counted(trending: Stage) -> None:
    stage = trending
    _, profile = stage.workers()
    with stage.load(rate=300, mix=WEEKS):
        for _ in range(3):
            stage.flow(600)
            profile.kill()
            profile.start()
        stage.flow_everywhere()
    stage.verdict("the trend, after kills of the profile worker")


@broken_by("count-for-ever")
def test_partitions_move_and_a_disk_is_lost(trending: Stage) -> None:
    stage = trending
    _, profile = stage.workers()
    with stage.load(rate=300, mix=WEEKS):
        stage.flow(600)
        other = stage.worker("profile")
        stage.flow(600)
        profile.kill()
        shutil.rmtree(profile.bags)
        stage.flow_everywhere()
        profile.start()
        stage.ready()
        stage.flow(600)
        other.stop()
        stage.flow_everywhere()
        other.start()
        stage.ready()
        stage.flow_everywhere()
        stage.flow(600)
    stage.verdict("the trend, while partitions move and a disk is lost")
