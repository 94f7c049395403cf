"""What the trend costs an event, beside folding and scoring it. `python -m tests.benchmarks.trend` measures precisely."""

from pathlib import Path

import pytest

from model.bundle import Bundle
from streams.bundles import Bundles
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from tests.benchmarks.trend import events, play, scanned
from tests.bundles import write_trending

pytestmark = pytest.mark.alone

EVENTS, ROUNDS = 4000, 3
MOST = 0.10  # of folding, scoring and encoding; measured: 0.05, and 0.07 while most bags have a few items only


async def test_counting_takes_a_small_part_of_the_time_of_scoring(tmp_path: Path) -> None:
    bundle = Bundle.load(write_trending(tmp_path / "bundle"))
    given = list(events(bundle, EVENTS))
    rounds: list[dict[str, float]] = []
    for number in range(ROUNDS):
        worker = ProfileWorker(Settings.model_construct(), Bundles(bundle), tmp_path / str(number), partitions=1)
        worker.table.data.open(0)
        await scanned(worker)
        rounds.append(play(worker, given, batch=64).spent)
    counting, scoring = (min(spent[what] for spent in rounds) for what in ("count", "fold, score and encode"))
    assert counting < MOST * scoring
