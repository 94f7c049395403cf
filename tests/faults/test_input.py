"""Producers send duplicates, late events, everything again, poison, and erasures."""

import json
import shutil

import pytest

from streams.messages import Interaction
from streams.profile.rows import user_of, user_prefix
from streams.settings.names import BAGS_CHANGELOG
from tests.faults.breaks import broken_by
from tests.faults.load import Mix, Produced
from tests.faults.pictures import PictureServer
from tests.faults.stage import PARTITIONS, Stage
from tests.faults.tap import EMBEDDED, INPUT, OUTPUT
from tests.faults.topics import compact_soon
from tests.kafka.system import Record
from tests.kafka.test_bad_input import CASES, PICTURES, make_pictures

ROUNDING = 2e-6  # of a score with 6 digits: in another batch, the same bag is summed in another order
COMPACTED = 120.0  # maximum seconds until the topics are compacted


def again(records: list[Record]) -> list[Produced]:
    return [Produced(record.key or b"", record.value or b"") for record in records]


@broken_by("count-twice")
def test_duplicates_old_events_and_a_replay_of_everything(stage: Stage) -> None:
    _, profile = stage.workers()
    with stage.load(rate=300, count=3000, mix=Mix(duplicates=0.1, old=0.1)) as load:
        stage.flow(900)
        profile.restart()
        load.wait()
    assert stage.settle()
    before = dict(stage.tap.seen.last)
    stage.produce(again(stage.read(INPUT)), rate=1000)
    assert stage.settle()
    after = stage.tap.seen.last
    assert after.keys() == before.keys()
    for user, value in before.items():
        found, expected = scores(after[user]), scores(value)
        assert list(found) == list(expected), f"a replay keeps the order of the categories of {user}"
        assert found == pytest.approx(expected, abs=ROUNDING), f"a replay keeps the scores of {user}"
    stage.verdict("duplicates, old events, replay from offset 0")


def scores(value: bytes | None) -> dict[str, float]:
    """Score by category, best first; empty for an erased user."""
    return {one["category"]: one["score"] for one in json.loads(value)["categories"]} if value else {}


@broken_by("forget-floor")
def test_an_erased_user_stays_erased(stage: Stage) -> None:
    _, profile = stage.workers()
    users = [f"gone-{number}" for number in range(8)]
    with stage.load(rate=300, count=1500, mix=Mix(who="gone", users=len(users), erasures=0)) as load:
        load.wait()
    assert stage.settle()
    old = stage.read(INPUT)
    latest = max(json.loads(record.value or b"")["timestamp"] for record in old)
    erasures = [{"user_id": user, "type": "erase", "timestamp": latest, "event_id": f"erase {user}"} for user in users]
    with stage.load(rate=300, mix=Mix(who="other")):
        stage.produce([Produced(str(one["user_id"]).encode(), json.dumps(one).encode()) for one in erasures])
        stage.flow(300)
        profile.kill()
        shutil.rmtree(profile.bags)
        profile.start()
        stage.flow_everywhere()
        stage.produce(again(old), rate=1000)
        stage.flow_everywhere()
    assert stage.settle()

    compact_soon(stage.broker, BAGS_CHANGELOG, OUTPUT)
    with stage.load(rate=100, mix=Mix(who="other")):  # later records close the segments
        stage.wait_for(lambda: not left_of(users, stage), COMPACTED, "compacted")
    stage.verdict("erase, kill, recovery, replay of the old events")
    for user in users:
        assert stage.tap.seen.last[user] is None, "the recommendation is null"


def left_of(users: list[str], stage: Stage) -> list[Record]:
    """Records of the compacted topics that still contain data of these users."""
    rows = [
        row
        for row in stage.read(BAGS_CHANGELOG)
        if row.key and user_of(row.key) in users and row.value and row.key != user_prefix(user_of(row.key)) + b"\x00"
    ]
    return rows + [one for one in stage.read(OUTPUT) if one.key and one.key.decode() in users and one.value]


@broken_by("drop-letters")
def test_poison_of_each_kind_among_good_events(stage: Stage) -> None:
    stage.workers()
    folder = stage.folder / "pictures"
    folder.mkdir()
    make_pictures(folder)
    with PictureServer(folder) as bad_pictures, stage.load(rate=300, count=2000, mix=Mix(poison=0.02)) as load:
        url = bad_pictures.url.encode()
        stage.produce_to(
            (bad.topic, number % PARTITIONS, bad.value and bad.value.replace(PICTURES.encode(), url))
            for number, bad in enumerate(CASES)
        )
        load.wait()

        def may_fail(event: Interaction) -> bool:
            return event.user_id == "anna"  # the user of the bad pictures

        stage.verdict("poison of each kind", may_fail=may_fail)
    of_profile = [one for one in stage.tap.seen.letters if one.headers["tastestream-topic"] == EMBEDDED]
    assert len(of_profile) >= sum(bad.topic == EMBEDDED for bad in CASES)
