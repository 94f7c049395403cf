"""Workers are killed at the worst moments, which fault points select."""

import pytest

from tests.faults.breaks import broken_by
from tests.faults.stage import Stage

TIMES = 3
MOMENTS = {  # the worker, how often it passes the fault point before it dies (least, most), and the break to find
    "before-disk-write": ("profile", 20, 200, "skip-changelog:5"),
    "after-table-write": ("profile", 20, 200, "acknowledge-early"),
    "after-output": ("profile", 5, 60, "drop-output:5"),
    "before-commit profile": ("profile", 2, 6, "acknowledge-early"),
    "before-commit embed": ("embed", 2, 6, "acknowledge-early"),
}


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=broken_by(found)) for name, (*_, found) in MOMENTS.items()]
)
def test_a_kill_at_the_worst_moment(stage: Stage, moment: str) -> None:
    kind, least, most, _ = MOMENTS[moment]
    embed, profile = stage.workers()
    worker = profile if kind == "profile" else embed
    with stage.load(rate=300):
        for time in range(TIMES):
            stage.flow(300)
            worker.restart(f"{moment.split(maxsplit=1)[0]}:{stage.random.randint(least, most)}")
            stage.wait_for(lambda hit=time + 1: worker.hits == hit, 90, "killed at its fault point")
            stage.flow_everywhere()
    stage.verdict(f"killed {moment}, {TIMES} times")
