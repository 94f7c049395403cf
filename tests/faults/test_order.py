"""Pictures complete out of order, and picture servers fail."""

import json

from aiokafka import TopicPartition

from streams.messages import Interaction
from tests.faults.breaks import broken_by
from tests.faults.load import PHOTOS, Mix
from tests.faults.pictures import NORMAL, REFUSED, dripping, failing, slow
from tests.faults.stage import PARTITIONS, Stage
from tests.faults.tap import INPUT

SLOW, *OTHERS = PHOTOS


@broken_by("acknowledge-out-of-order")
def test_the_first_picture_is_slow_then_a_kill(stage: Stage) -> None:
    embed, _ = stage.workers()
    stage.pictures.tell(slow(5), SLOW)
    first = [
        json.dumps({
            "event_id": f"slow-{number}", "user_id": f"patient-{number}", "item_id": "slow", "type": "view",
            "timestamp": 1_600_000_000_000, "image_url": f"{stage.pictures.url}/{SLOW}",
        }).encode()
        for number in range(PARTITIONS)
    ]  # fmt: skip
    stage.produce_to((INPUT, number, value) for number, value in enumerate(first))
    with stage.load(rate=300, count=600, mix=Mix(photos=tuple(OTHERS))):
        stage.flow(400)
        assert stage.pictures.asked[SLOW] == 1, "the slow picture has been requested"
        for tp in (TopicPartition(INPUT, number) for number in range(PARTITIONS)):
            committed = stage.tap.latest.committed.get(tp, 0) if stage.tap.latest else 0
            assert committed == 0, "nothing is committed before the slow picture"
        embed.restart()
        stage.pictures.tell(NORMAL, SLOW)
    stage.verdict("first picture takes 5 s, then kill -9")


@broken_by("drop-letters")
def test_failing_pictures_do_not_delay_others(stage: Stage) -> None:
    troubled = dict(zip(OTHERS, (failing(404), failing(503), REFUSED, dripping(1.0), slow(30)), strict=False))
    for name, answer in troubled.items():
        stage.pictures.tell(answer, name)
    stage.settings["fetch_timeout"] = 2
    stage.workers()

    def may_fail(event: Interaction) -> bool:
        return event.image_url.rsplit("/", 1)[-1] in troubled

    with stage.load(rate=300, count=3000):
        stage.flow(1000)
    stage.verdict("pictures slow, refused, dripping, failing", may_fail=may_fail)
    assert stage.tap.seen.letters, "a missing picture becomes a dead letter"
