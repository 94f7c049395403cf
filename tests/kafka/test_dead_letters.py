"""Dead letters on real Kafka with real workers: they are listed, and their events are sent again and succeed or fail again.

One story is played once: events fail, the pictures become available, and `dlq redrive` runs several times. Each test then
checks one sentence against what was recorded.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from PIL import Image

from model.bundle import Bundle
from streams.demo.processes import free_port
from streams.messages import Interaction, derived_event_id, parse_interaction
from streams.profile.bag import Bag
from tests.forked import run_forked
from tests.kafka.system import COMMAND_TIMEOUT, PATIENCE, PictureHandler, Record, System, picture_server
from tests.kafka.test_bad_input import embedded
from tests.oracle import Oracle

BROKEN = b'{"user_id": "anna", "type"'
TOPICS = ("user-interactions", "embedded-interactions", "user-recommendations", "user-interactions-dlq")
POISON = {"invalid_json", "not_a_picture", "invalid_field"}  # the reasons that are permanent
ROUNDS = 4  # runs of `dlq redrive`, one more than --max-attempts allows
FORGED = [("tastestream-attempts", b"99"), ("tastestream-note", b"redrive"), ("tastestream-truncated", b"5")]
SENT_BEFORE = "the event was sent again before; if it failed again, it has a newer dead letter"


class Pictures(PictureHandler):
    """Serves a folder; answers 503 while `down` is set."""

    down = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 -- the name is the base's
        if self.down.is_set() and self.path != "/shoe.png":
            self.send_error(503)
        else:
            super().do_GET()


@dataclass
class Redriven:
    """One run of `dlq redrive --all`, and what the topics held once the workers had processed what it sent."""

    lines: list[str]
    letters: list[dict[str, Any]]
    recommended: dict[str, int]  # how often, by event id


@dataclass
class Story:
    """What happened, in order."""

    pictures: str = ""
    table: str = ""
    letters: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    filtered: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # event ids, by the filter
    dry_run: list[str] = field(default_factory=list[str])
    ends: list[dict[str, int]] = field(default_factory=list[dict[str, int]])  # of all topics, around the dry run
    redriven: list[Redriven] = field(default_factory=list[Redriven])
    bags: list[dict[str, Bag]] = field(default_factory=list[dict[str, Bag]])  # after the first run, after the last
    expected: list[dict[str, Bag]] = field(default_factory=list[dict[str, Bag]])  # the oracle's, at the same moments
    interactions: list[Record] = field(default_factory=list[Record])
    interrupted: tuple[int, str] = (0, "")
    killed: int = 0  # exit code of a run that was killed between an event and its note
    after_kill: list[list[str]] = field(default_factory=list[list[str]])  # what the two runs after it printed
    sent_last: Counter[str] = field(default_factory=Counter[str])  # how often each value was sent in the end


@pytest.fixture(scope="module")
def story(system: System) -> Iterator[Story]:
    folder = system.folder / "pictures"
    folder.mkdir()
    for number, item in enumerate(("shoe", "lamp", "sofa")):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{item}.png")
    (folder / "text.png").write_text("this is no picture")
    system.configure(cache_failure_age=0, fetch_attempts=1)
    Pictures.down.set()
    with picture_server(folder, Pictures) as pictures:
        yield play(system, pictures, folder)


def event(pictures: str, user: str, item: str, **fields: object) -> dict[str, Any]:
    return {
        "user_id": user,
        "item_id": item,
        "type": "purchase",
        "timestamp": 1_400_000_000_000,
        "image_url": f"{pictures}/{item}.png",
        **fields,
    }


def play(system: System, pictures: str, folder: Path) -> Story:
    story = Story(pictures)
    with system.workers():
        asyncio.run(produce_all(system, pictures))
        asyncio.run(system.settled())
        look(system, story)
        story.ends.append(asyncio.run(ends(system)))
        story.dry_run = done(system, "dlq", "redrive", "--all", "--dry-run").splitlines()
        story.ends.append(asyncio.run(ends(system)))

    Pictures.down.clear()
    (folder / "text.png").write_text("this is still no picture")
    oracle = Oracle(Bundle.load(), lambda url: (folder / url.rsplit("/", 1)[1]).read_bytes())
    for rounds in (1, ROUNDS - 1):
        with system.workers():
            story.redriven += [redrive_all(system) for _ in range(rounds)]
        story.interactions = asyncio.run(system.read("user-interactions"))
        story.bags.append(system.stored_bags())
        story.expected.append(oracle.bags(valid(story.interactions)))
    Pictures.down.set()
    with system.workers():
        late = [event(pictures, "anna", f"late-{number}", event_id=f"late-{number}") for number in range(4)]
        asyncio.run(system.produce(late))
        asyncio.run(system.settled())
    story.interrupted = asyncio.run(interrupted(system))
    redrive = ("dlq", "redrive", "--reason", "http_status")
    through = [sys.executable, "-m", "tests.faults.armed", "before-second-note:2", "--", *redrive, "--rate", "2"]
    story.killed = subprocess.run(
        through, env=system.environment, capture_output=True, check=False, timeout=COMMAND_TIMEOUT
    ).returncode
    story.after_kill = [done(system, *redrive).splitlines() for _ in range(2)]
    story.sent_last = Counter(str(one.value) for one in asyncio.run(system.read("user-interactions")))
    return story


def redrive_all(system: System) -> Redriven:
    lines = done(system, "dlq", "redrive", "--all").splitlines()
    asyncio.run(system.settled())
    recommended = Counter(one["event_id"] for one in asyncio.run(system.recommendations()))
    return Redriven(lines, listed(system), dict(recommended))


async def produce_all(system: System, pictures: str) -> None:
    """Events that will succeed later, three that never will, one that is too large, and a foreign record on the topic.

    One event comes twice, the second time with headers that claim to be ours.
    """
    await system.produce([
        event(pictures, "anna", "shoe", event_id="good"),
        event(pictures, "anna", "text", event_id="text"),
        BROKEN,
    ])  # fmt: skip
    async with AIOKafkaProducer(bootstrap_servers=system.broker.bootstrap) as producer:
        for transient in (event(pictures, "anna", "lamp", event_id="lamp"), event(pictures, "bob", "sofa")):
            value = json.dumps(transient).encode()
            headers = [("trace", b"7"), ("trace", b"8")]
            await producer.send_and_wait("user-interactions", value, key=transient["user_id"].encode(), headers=headers)
        twin = json.dumps(event(pictures, "eve", "sofa", event_id="twin")).encode()
        for forged in ([], FORGED):
            await producer.send_and_wait("user-interactions", twin, key=b"eve", headers=forged)
        short = embedded(event_id="short", user_id="carl", embedding=b"\0" * 100)
        await producer.send_and_wait("embedded-interactions", short, key=b"carl")
        large = json.dumps(event(pictures, "dora", "shoe", event_id="large", note="x" * 950_000)).encode()
        await producer.send_and_wait("user-interactions", large, key=b"dora")
        await producer.send_and_wait("user-interactions-dlq", b"\xff", key=b"stranger")


def done(system: System, *arguments: str) -> str:
    """What a command printed; it has to succeed."""
    ended = system.command(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def listed(system: System, *filters: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(system, "dlq", "list", "--json", *filters).splitlines()]


def look(system: System, story: Story) -> None:
    story.table = done(system, "dlq", "list")
    story.letters = listed(system)
    for filters in (
        "--reason http_status",
        "--reason http_status --reason invalid_field",
        "--user anna --since 1h",
        "--since 2014-05-01T12:00:00Z --until 1h",
        "--reason http_status --limit 1",
    ):
        story.filtered[filters] = [letter["event_id"] for letter in listed(system, *filters.split())]


async def ends(system: System) -> dict[str, int]:
    """The sum of the end offsets of each topic."""
    async with AIOKafkaConsumer(bootstrap_servers=system.broker.bootstrap) as consumer:
        return {topic: sum((await consumer.end_offsets(await system.partitions(topic))).values()) for topic in TOPICS}


async def interrupted(system: System) -> tuple[int, str]:
    """Exit code and output of `dlq redrive` when it gets Ctrl-C between its first event and its second."""
    before = (await ends(system))["user-interactions"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "dlq", "redrive", "--reason", "http_status", "--rate", "0.01"],
        env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- a shell's background jobs ignore it
    )  # fmt: skip
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            while (await ends(system))["user-interactions"] == before:
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
    return process.returncode, output


def valid(records: list[Record]) -> list[Interaction]:
    """The events that the embed worker can process once the pictures are available."""
    values = [record.value or b"" for record in records]
    whole = [value for value in values if value != BROKEN and b"/text.png" not in value and len(value) < 65_536]
    return [parse_interaction(value, now=2e9, max_future=0) for value in whole]


def of_reason(letters: list[dict[str, Any]], reason: str) -> list[dict[str, Any]]:
    return [letter for letter in letters if letter["reason"] == reason]


# Listing


def test_every_dead_letter_is_listed_with_its_user_event_and_origin(story: Story) -> None:
    derived = derived_event_id("bob", "sofa", "purchase", 1_400_000_000_000, f"{story.pictures}/sofa.png")
    found = {(one["reason"], one["user"], one["event_id"], one["worker"]) for one in story.letters}
    assert found == {
        ("http_status", "anna", "lamp", "embed"),
        ("http_status", "bob", derived, "embed"),
        ("http_status", "anna", "text", "embed"),
        ("http_status", "eve", "twin", "embed"),
        ("invalid_json", "raw", "", "embed"),
        ("invalid_field", "carl", "short", "profile"),
        ("message_too_large", "dora", "", "embed"),
        ("", "stranger", "", ""),
    }
    assert len(story.letters) == len(found) + 1, "the event that came twice has two"
    assert {one["original"]["topic"] for one in story.letters if one["original"]} == set(TOPICS[:2])


def test_json_has_the_original_unchanged(story: Story) -> None:
    [broken] = of_reason(story.letters, "invalid_json")
    assert (broken["key"], broken["value"], broken["value_encoding"]) == ("raw", BROKEN.decode(), "utf-8")
    [short] = of_reason(story.letters, "invalid_field")
    assert short["value_encoding"] == "base64"
    [lamp] = [one for one in story.letters if one["event_id"] == "lamp"]
    assert [(one["name"], one["value"]) for one in lamp["headers"]] == [("trace", "7"), ("trace", "8")]
    [large] = of_reason(story.letters, "message_too_large")
    assert large["truncated"] > 950_000


def test_letters_are_listed_newest_last(story: Story) -> None:
    times = [one["at"] for one in story.letters]
    assert times == sorted(times)


def test_filters_select_what_they_name(story: Story) -> None:
    every = [one["event_id"] for one in story.letters]
    status = [one["event_id"] for one in of_reason(story.letters, "http_status")]
    assert len(every) == 9
    assert story.filtered == {
        "--reason http_status": status,
        "--reason http_status --reason invalid_field": [one for one in every if one in [*status, "short"]],
        "--user anna --since 1h": [one for one in every if one in {"lamp", "text"}],
        "--since 2014-05-01T12:00:00Z --until 1h": [],
        "--reason http_status --limit 1": status[-1:],
    }


def test_the_table_ends_with_the_counts(story: Story) -> None:
    lines = story.table.splitlines()
    assert lines[-1] == (
        "9 dead letters: http_status 5, unknown 1, invalid_field 1, invalid_json 1, message_too_large 1"
    )
    [number] = [number for number, line in enumerate(lines) if line.endswith("  http_status  anna lamp")]
    assert lines[number + 1].endswith("lamp.png': the server answered with status 503")
    assert lines[number + 2].startswith("  field image_url, from user-interactions/")


# Redriving


def test_a_dry_run_prints_what_it_would_send_and_sends_nothing(story: Story) -> None:
    assert story.dry_run == [
        "would send 7 of 9 dead letters",
        "  1 to embedded-interactions: invalid_field 1",
        "  6 to user-interactions: http_status 5, invalid_json 1",
        "  1 not sent: the dead letter holds only the first part of the value",
        "  1 not sent: it does not come from a topic of events; write an item again yourself",
    ]
    before, after = story.ends
    assert before == after


def test_an_event_that_succeeds_now_gets_its_recommendation(story: Story) -> None:
    first = story.redriven[0]
    derived = derived_event_id("bob", "sofa", "purchase", 1_400_000_000_000, f"{story.pictures}/sofa.png")
    assert first.lines == ["sent" + story.dry_run[0].removeprefix("would send"), *story.dry_run[1:]]
    assert first.recommended == {"good": 1, "lamp": 1, "twin": 2, derived: 1}


def test_headers_of_the_input_change_no_other_events_redrive(story: Story) -> None:
    twins = [one for one in story.letters if one["event_id"] == "twin"]
    assert [(one["attempts"], one["truncated"], one["headers"]) for one in twins] == [(0, None, [])] * 2
    assert story.redriven[0].recommended["twin"] == 2


def test_what_is_sent_again_is_the_original(story: Story) -> None:
    lamps = [record for record in story.interactions if b'"lamp"' in (record.value or b"")]
    original, *again = sorted(lamps, key=lambda record: record.offset)
    assert {record.partition for record in again} == {original.partition}
    assert {(record.key, record.value) for record in again} == {(original.key, original.value)}
    assert [record.headers for record in (original, *again)] == [{"trace": "8"}] * 2


def test_an_event_that_fails_again_is_a_dead_letter_again_and_counts_up_to_the_maximum(story: Story) -> None:
    for number, run in enumerate(story.redriven, 1):
        for value, worker in ((BROKEN.decode(), "embed"), ("text", "embed"), ("short", "profile")):
            letters = [one for one in run.letters if value in (one["value"], one["event_id"])]
            assert [one["attempts"] for one in letters] == list(range(min(number, 3) + 1))
            assert {one["worker"] for one in letters} == {worker}
            assert letters[-1]["reason"] in POISON
            assert not any(header["name"].startswith("tastestream-") for one in letters for header in one["headers"])


def test_a_letter_is_sent_once_and_only_the_newest_letter_of_an_event_that_failed_again(story: Story) -> None:
    exhausted = "the event was sent again as often as --max-attempts allows"
    assert story.redriven[1].lines[0] == "sent 3 of 12 dead letters"
    assert f"  7 not sent: {SENT_BEFORE}" in story.redriven[1].lines
    assert story.redriven[2].lines[0] == "sent 3 of 15 dead letters"
    assert story.redriven[3].lines[0] == "sent 0 of 18 dead letters"
    assert {f"  13 not sent: {SENT_BEFORE}", f"  3 not sent: {exhausted}"} <= set(story.redriven[3].lines)


def test_redriving_changes_no_bag_but_those_of_its_events(story: Story) -> None:
    first, last = story.bags
    items = {"anna": {"shoe", "lamp"}, "bob": {"sofa"}, "eve": {"sofa"}}
    assert {user: set(bag.slots) for user, bag in first.items()} == items
    assert last == first
    assert story.bags == story.expected
    assert story.redriven[-1].recommended["lamp"] == 1, "the event was sent once"


def test_an_interrupted_run_prints_how_many_were_sent(story: Story) -> None:
    code, output = story.interrupted
    assert code == 130
    assert output.splitlines()[:2] == [
        "stopped: sent 1 of 9 dead letters",
        "  1 to user-interactions: http_status 1",
    ]


def test_what_a_killed_run_has_not_noted_is_sent_once_more_and_reported(story: Story) -> None:
    assert story.killed == -signal.SIGKILL
    assert story.after_kill == [
        [
            "sent 2 of 9 dead letters",
            "  2 to user-interactions: http_status 2",
            "  1 of these may have been sent before: an earlier run was killed while it sent them",
            f"  7 not sent: {SENT_BEFORE}",
        ],
        ["sent 0 of 9 dead letters", f"  9 not sent: {SENT_BEFORE}"],
    ]
    late = sorted(count for value, count in story.sent_last.items() if '"late-' in value)
    assert late == [2, 2, 2, 3]  # the first time included


# Refusals


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["redrive", "--all"], ["replay", "--all"]])
def test_a_missing_topic_gets_one_line_and_is_not_created(story: Story, system: System, command: list[str]) -> None:
    nowhere = system.environment | {"TASTESTREAM_DLQ_TOPIC": "nowhere"}
    ended = run_forked(("dlq", *command), nowhere, timeout=COMMAND_TIMEOUT)
    [line] = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert line.startswith(
        f"error: there is no topic nowhere at {system.broker.bootstrap}; `tastestream topics` creates it"
    )
    with pytest.raises(AssertionError, match="no topic nowhere"):
        asyncio.run(system.partitions("nowhere"))


def test_an_unreachable_broker_ends_with_code_69(system: System) -> None:
    nobody = {"TASTESTREAM_BROKER": f"127.0.0.1:{free_port()}", "TASTESTREAM_BROKER_TIMEOUT": "1"}
    ended = run_forked(("dlq", "list"), system.environment | nobody, timeout=COMMAND_TIMEOUT)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert ended.stderr.splitlines()[-1].startswith("error: no broker at 127.0.0.1:")


def test_a_pipe_that_closes_early_ends_the_list_quietly(story: Story, system: System) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m streams dlq list --json | head -1"],
        env=system.environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False,
    )  # fmt: skip
    assert json.loads(ended.stdout) == story.redriven[-1].letters[0]
    assert ended.stderr == ""
