"""A hostile hour in small: good events among what strangers send, and one kill of each worker.

HOSTILE_EVENTS sets the number of good events; a tenth as many hostile acts go among them.
"""

import os

from streams.messages import Interaction
from streams.settings import Settings
from tests.faults.load import Mix
from tests.faults.stage import PARTITIONS, Stage
from tests.faults.strangers import WHO, Strangers
from tests.usage import MB, children, peak_resident_mb

EVENTS = int(os.environ.get("HOSTILE_EVENTS", "20000"))
RATE = 150.0  # good events/s
SHARE = 0.1  # hostile acts for each good event
FRESH = 0.1  # share of good events whose picture nobody has seen before
MEMORY = 400.0  # MB of a worker at most
DECODER_MEMORY: float = Settings.model_fields["decoder_memory"].default / MB


def test_a_hostile_hour(stage: Stage) -> None:
    embed, profile = stage.workers()
    peaks = {"embed": 0.0, "profile": 0.0, "decoder": 0.0}

    def note_memory() -> None:
        found = [(worker.kind, worker.pid) for worker in (embed, profile) if worker.running]
        found += [("decoder", child) for kind, pid in found if kind == "embed" for child in children(pid)]
        for kind, pid in found:
            peaks[kind] = max(peaks[kind], peak_resident_mb(pid))

    with Strangers(
        stage.broker,
        stage.folder / "hostile",
        stage.pictures,
        seed=stage.row.seed,
        total=int(EVENTS * SHARE),
        rate=RATE * SHARE,
        partitions=PARTITIONS,
    ) as strangers:
        with stage.load(rate=RATE, count=EVENTS, mix=Mix(fresh=FRESH, duplicates=0.02, old=0.02)) as load:
            for victim, share in ((embed, 1 / 3), (profile, 2 / 3)):
                stage.wait_for(lambda share=share: load.acknowledged > EVENTS * share, EVENTS / RATE + 60, "further")
                note_memory()
                victim.restart()
            load.wait(EVENTS / RATE + 60)
        stage.wait_for(lambda: strangers.done, 60, "at the end of the hostile acts")
        stage.settle()
        note_memory()
        stage.notes += [f"{kind} {peak:.0f} MB at most" for kind, peak in peaks.items()]
        stage.notes.append(", ".join(f"{number} {kind}" for kind, number in strangers.sent.items()))

        def may_fail(event: Interaction) -> bool:
            return event.user_id.startswith(WHO) or event.user_id == "anna"

        stage.verdict("a hostile hour", may_fail=may_fail)
    assert not any(stage.crashes().values()), "nothing that a stranger sends restarts a worker"
    for kind, peak in peaks.items():
        assert peak < (DECODER_MEMORY if kind == "decoder" else MEMORY), f"the {kind} took {peak:.0f} MB"
