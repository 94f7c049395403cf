"""The life of the workers on real Kafka: clean stops, kills, lost disks and topics; no event lost, none doubled, nobody comes back.

One story, in lives that end in different ways, is played once. Each test then holds one sentence against what was recorded.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from PIL import Image

from model.bundle import Bundle
from streams.profile.rows import decode_bag, user_prefix
from streams.settings.names import BAGS_CHANGELOG
from tests.kafka.system import PATIENCE, Record, System, picture_server, stop, wait_until
from tests.stored import by_user, rows_on_disk

CLEAN_STOP = PATIENCE  # maximum seconds of a stop; test_under_load.py measures it alone
RESTART = 2 * PATIENCE  # maximum seconds; the session of a killed worker lasts 6, and a start takes a few


@dataclass
class Story:
    """What happened, in order."""

    stops: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])  # exit code, seconds
    bag_sizes: dict[str, int] = field(default_factory=dict[str, int])  # by event id
    recommendations: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])  # by event id
    published: dict[str, int] = field(
        default_factory=dict[str, int]
    )  # number of recommendations by event id, at the end
    after_life: list[dict[str, int]] = field(default_factory=list[dict[str, int]])
    rows: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict[str, list[tuple[bytes, bytes]]])  # by user
    erased: list[Record] = field(default_factory=list[Record])  # recommendations under the key of the erased user
    changelog: dict[bytes, bytes | None] = field(default_factory=dict[bytes, bytes | None])  # newest value by key
    killed: tuple[int, int] = (0, 0)  # process id of the profile worker, before and after
    crashed: tuple[int, int] = (0, 0)  # the same, for a worker that found foreign records in its changelog
    pids: list[int] = field(default_factory=list[int])
    orphans: list[int] = field(default_factory=list[int])
    sent: list[str] = field(default_factory=list[str])  # event ids
    dead_letters: int = 0
    log: str = ""


class Shop:
    """Produces the events of the story, with increasing timestamps."""

    def __init__(self, system: System, pictures: str) -> None:
        self.system = system
        self.pictures = pictures
        self.clock = 1_400_000_000_000
        self.sent: list[str] = []

    def send(self, user: str, item: str, event_id: str, kind: str = "purchase", *, earlier: int = 0) -> None:
        """Produce an event and wait until both workers have committed it. earlier: milliseconds before the last event."""
        self.clock += 1000
        event = {
            "event_id": event_id,
            "user_id": user,
            "type": kind,
            "timestamp": self.clock - earlier,
            **({"item_id": item, "image_url": f"{self.pictures}/{item}.png"} if item else {}),
        }
        self.sent.append(event_id)
        asyncio.run(self.system.produce([event]))
        asyncio.run(self.system.settled())


@pytest.fixture(scope="module")
def story(system: System) -> Iterator[Story]:
    folder = system.folder / "pictures"
    folder.mkdir()
    for number, item in enumerate(("shoe", "hat", "pear", "sofa", "late", "lamp", "again")):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{item}.png")
    with picture_server(folder) as pictures:
        yield play(system, Shop(system, pictures))


def play(system: System, shop: Shop) -> Story:
    story = Story()

    # The first run ends with SIGTERM.
    with system.worker("all") as process:
        shop.send("anna", "shoe", "anna buys")
        shop.send("bert", "hat", "bert buys")
        shop.send("bert", "hat", "bert returns", "return")
        shop.send("carl", "shoe", "carl buys")
        shop.send("carl", "pear", "carl buys more")
        shop.send("carl", "", "carl leaves", "erase")
        shop.send("carl", "late", "an old event of carl's", earlier=3_600_000)
        story.stops.append(timed_stop(process))
    story.after_life.append(published(system))
    story.rows = by_user(rows_on_disk(system.folder / "data" / "profile" / "bags"))

    # In the second run the profile worker is killed, then crashes. The run ends when the parent closes standard input.
    with system.worker("all") as process:
        shop.send("anna", "hat", "anna buys after a stop")
        before = held_by(system, "profile")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: held_by(system, "profile") not in (0, before), RESTART, system.log)
        story.killed = (before, held_by(system, "profile"))
        shop.send("anna", "pear", "anna buys after a kill")
        asyncio.run(write_from_outside(system))
        shop.send("dora", "hat", "dora buys")
        story.crashed = (story.killed[1], held_by(system, "profile"))
        story.pids = [process.pid, held_by(system, "embed"), held_by(system, "profile")]
        assert process.stdin
        begun = time.monotonic()
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 * CLEAN_STOP)
        story.orphans = [pid for pid in story.pids if lives(pid)]
        story.stops.append((-1 if process.returncode is None else process.returncode, time.monotonic() - begun))
    story.after_life.append(published(system))

    # The third run starts without a data folder.
    system.remove_data()
    with system.workers():
        shop.send("anna", "sofa", "anna buys after the disk was lost")
        shop.send("carl", "late", "an old event of carl's, again", earlier=3_600_000)
    for record in asyncio.run(system.read(BAGS_CHANGELOG)):
        story.changelog[record.key or b""] = record.value

    # The fourth run starts with a new, empty changelog topic.
    asyncio.run(delete_topic(system, BAGS_CHANGELOG))
    begins = len(system.log())
    with system.workers():
        shop.send("anna", "lamp", "anna buys after the topic was lost")
        shop.send("anna", "again", "anna buys once more")
    story.log = system.log()[begins:]

    for one in asyncio.run(system.recommendations()):
        story.recommendations[one["event_id"]] = one
        story.bag_sizes[one["event_id"]] = one["bag_size"]
    story.erased = [one for one in asyncio.run(system.read("user-recommendations")) if one.key == b"carl"]
    story.published = published(system)
    story.sent = shop.sent
    story.dead_letters = len(asyncio.run(system.read("user-interactions-dlq")))
    return story


def timed_stop(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    begun = time.monotonic()
    return stop(process, timeout=2 * CLEAN_STOP), time.monotonic() - begun


def published(system: System) -> dict[str, int]:
    """Number of records on `user-recommendations` for each event id, nulls included."""
    counts: dict[str, int] = {}
    for record in asyncio.run(system.read("user-recommendations")):
        event_id = record.headers.get("tastestream-event-id") or json.loads(record.value or b"{}")["event_id"]
        counts[event_id] = counts.get(event_id, 0) + 1
    return counts


def held_by(system: System, kind: str) -> int:
    """Id of the process that holds the data folder of a worker; 0 if no such process is alive."""
    text = (system.folder / "data" / kind / "LOCK").read_text()
    return int(text) if text and lives(int(text)) else 0


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def write_from_outside(system: System) -> None:
    """Write a foreign record to each partition of the changelog, as a second owner of the partitions would."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for tp in await system.partitions(BAGS_CHANGELOG):
            await producer.send_and_wait(
                BAGS_CHANGELOG, None, key=user_prefix("nobody") + b"\x00", partition=tp.partition
            )


GARBAGE: list[tuple[bytes, bytes | None]] = [
    (b"", b"x"),
    (b"\x00\x03ann\x01shoe", b"\xff\xff"),
    (b"\xff\xff", None),
    (user_prefix("ann") + b"\x01shoe", b"\x01\xc1"),
]


async def write_garbage(system: System) -> None:
    """Write records that are no rows to each partition of the changelog."""
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for tp in await system.partitions(BAGS_CHANGELOG):
            for key, value in GARBAGE:
                await producer.send_and_wait(BAGS_CHANGELOG, value, key=key, partition=tp.partition)


def returned(user: str, event_id: str) -> dict[str, object]:
    """An event that needs no picture."""
    return {
        "user_id": user,
        "item_id": "shoe",
        "type": "return",
        "timestamp": 1_500_000_000_000,
        "event_id": event_id,
    }


async def delete_topic(system: System, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(PATIENCE):
            while topic in await admin.list_topics():  # noqa: ASYNC110 -- the broker sends no notice
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


# Stopping and starting


def test_sigterm_stops_all_processes_soon_with_code_0(story: Story) -> None:
    code, seconds = story.stops[0]
    assert code == 0
    assert seconds < CLEAN_STOP


def test_a_clean_stop_duplicates_no_event(story: Story) -> None:
    first, second = story.after_life
    assert set(first.values()) == {1}
    assert {event: second[event] for event in first} == first


def test_a_clean_stop_commits_what_was_processed_since_the_last_commit(system: System, story: Story) -> None:
    events = [returned(f"emil-{n}", f"emil {n}") for n in range(20)]
    system.configure(commit_interval=60)
    with system.workers() as processes:
        asyncio.run(system.produce(events))
        wait_until(lambda: {str(one["event_id"]) for one in events} <= published(system).keys(), PATIENCE, system.log)
        assert asyncio.run(system.lag()) > 0, "there is something to commit at the stop"
        assert [stop(process) for process in processes] == [0, 0]
    assert asyncio.run(system.lag()) == 0


def test_every_event_is_published_and_only_an_interrupted_one_twice(story: Story) -> None:
    assert story.published.keys() == set(story.sent)
    assert {event for event, count in story.published.items() if count > 1} <= {"dora buys"}
    assert story.dead_letters == 0


def test_a_killed_worker_is_restarted_and_processes_events_again(story: Story) -> None:
    before, after = story.killed
    assert before
    assert after not in (0, before)
    assert "anna buys after a kill" in story.recommendations


def test_a_crashed_worker_is_restarted_and_processes_events_again(story: Story) -> None:
    before, after = story.crashed
    assert after not in (0, before), "a second writer of its changelog crashes the worker"
    assert story.bag_sizes["dora buys"] == 1


def test_records_of_the_changelog_that_are_no_rows_stop_no_worker(system: System, story: Story) -> None:
    system.configure(commit_interval=0.2)
    with system.workers() as (_, profile):
        for number in range(3):
            asyncio.run(system.produce(returned(f"fay-{user}", f"fay {user} {number}") for user in range(20)))
            asyncio.run(system.settled())
            asyncio.run(write_garbage(system))
        assert profile.poll() is None
        text = system.get("profile", "/metrics")[1]
    passed_over = float(text.split("\ntastestream_quarantined_rows_total ")[1].split()[0])
    assert passed_over >= 2 * len(GARBAGE), "the last round has no event behind it in some partitions"
    assert {f"fay {user} {number}" for user in range(20) for number in range(3)} <= published(system).keys()


def test_all_processes_end_when_the_parent_closes_standard_input(story: Story) -> None:
    code, seconds = story.stops[1]
    assert len(set(story.pids)) == 3
    assert not story.orphans
    assert code == 0
    assert seconds < CLEAN_STOP


# State


def test_the_bag_survives_a_stop(story: Story) -> None:
    assert (story.bag_sizes["anna buys"], story.bag_sizes["anna buys after a stop"]) == (1, 2)


def test_the_bag_survives_a_kill(story: Story) -> None:
    assert story.bag_sizes["anna buys after a kill"] == 3


def test_a_lost_disk_is_restored_from_the_changelog(story: Story) -> None:
    assert story.bag_sizes["anna buys after the disk was lost"] == 4


def test_a_worker_whose_disk_is_ahead_of_a_new_changelog_logs_it_and_drops_the_disk(story: Story) -> None:
    assert f"but {BAGS_CHANGELOG} ends at 0: the topic was re-created; recovering from it" in story.log
    assert story.bag_sizes["anna buys after the topic was lost"] == 1
    assert story.bag_sizes["anna buys once more"] == 2


# Returns and erasures


def test_after_all_items_are_returned_the_scores_are_the_prior(story: Story) -> None:
    bundle = Bundle.load()
    one = story.recommendations["bert returns"]
    assert story.recommendations["bert buys"]["cold_start"] is False
    assert (one["cold_start"], one["bag_size"], one["attention"]) == (True, 0, [])
    best = np.argsort(-bundle.prior, kind="stable")[:10]
    assert [category["category"] for category in one["categories"]] == [bundle.categories[place] for place in best]
    assert [category["score"] for category in one["categories"]] == pytest.approx(bundle.prior[best], abs=1e-6)


def test_an_erasure_publishes_null_under_the_key_of_the_user_with_the_event_id(story: Story) -> None:
    nulls = [record.headers for record in story.erased if record.value is None]
    assert nulls[0] == {"tastestream-event-id": "carl leaves"}


def test_an_event_from_before_the_erasure_publishes_null_again(story: Story) -> None:
    values = {record.headers.get("tastestream-event-id"): record.value for record in story.erased}
    assert values["an old event of carl's"] is None
    assert values["an old event of carl's, again"] is None
    assert story.erased[-1].value is None, "the newest value of the user is still null"
    assert "an old event of carl's" not in story.recommendations


def test_only_the_floor_of_an_erased_user_is_on_disk(story: Story) -> None:
    assert [key for key, _ in story.rows["carl"]] == [user_prefix("carl") + b"\x00"]
    bag = decode_bag(story.rows["carl"])
    assert not bag.slots
    assert bag.floor is not None
    assert len(story.rows["anna"]) == 1, "other users keep their bags"


def test_no_row_of_an_erased_user_is_left_in_the_changelog(story: Story) -> None:
    prefix = user_prefix("carl")
    slots = {key: value for key, value in story.changelog.items() if key.startswith(prefix + b"\x01")}
    assert len(slots) == 2, "the shoe and the pear had rows"
    assert set(slots.values()) == {None}
