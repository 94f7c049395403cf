"""A data set is replayed through real Kafka and both workers. The answers equal the expected ones, whatever dies meanwhile."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from offline_training.replay.answers.bags import changed_bags
from offline_training.replay.answers.embeddings import embedded_pictures
from offline_training.replay.evaluation.results import RESULTS
from offline_training.replay.play.events import EventSelection, PreparedDataset
from offline_training.replay.play.messages import Naming
from streams.settings import read_settings
from tests.bundles import write_trending
from tests.forked import Forked
from tests.kafka.system import System, wait_until
from tests.offline_training.replay.made import shop
from tests.offline_training.replay.ranked import ranked_anew

USERS, EACH = 20, 25
LOST = "pink-orchid"
SECONDS = 180.0  # maximum duration of a replay
NEAR = 1e-4  # of the score of an item: the workers embed pictures in other batches, which rounds differently


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop(tmp_path_factory.mktemp("data") / "shop", users=USERS, each=EACH, lost=LOST)


@contextmanager
def replaying(system: System, folder: Path, out: Path, *options: str) -> Generator[subprocess.Popen[str]]:
    """Run `tastestream replay` in its own process, and kill it at the end if it is still running."""
    process = Forked(
        [sys.executable, "-m", "streams", "replay", str(folder), "--out", str(out), *options],
        env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; the exit code, and everything that was printed."""
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out + err


def answers(out: Path) -> list[list[Any]]:
    path = out / "answers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / RESULTS).read_text())


def check(out: Path, events: int) -> dict[str, Any]:
    """Check that each event has one answer and that online equals offline; the results."""
    found = results(out)
    assert sorted(place for place, *_ in answers(out)) == list(range(events)), "each event has one answer"
    assert found["check"]["identical"], found["check"]
    assert found["check"]["compared"] == events
    assert found["check"]["largest_difference"] < 1e-3
    return found


async def played(system: System, tag: str) -> list[str]:
    """The ids of the events that were sent for the users of a tag, in the order of the topic."""
    values = [json.loads(record.value or b"") for record in await system.read("user-interactions")]
    return [value["event_id"] for value in values if value["user_id"].startswith(tag)]


def recommended_offline(folder: Path, tag: str) -> dict[str, list[tuple[str, float, str | None]]]:
    """All items that each user has to be recommended, best first: from the events, without Kafka."""
    bundle, settings, data = Bundle.load(), read_settings(), PreparedDataset(folder)
    pictures = sorted({item.picture for item in data.items.values() if item.picture}, key=str)
    embedded = embedded_pictures(settings, bundle.embedder(), pictures, data.folders, lambda _: None)
    events, naming = data.events(EventSelection()), Naming(data.fingerprint(), tag)
    changed = changed_bags(events, data.items, embedded, bundle, settings, naming=naming)
    bags = {one.event.user: one.after for one in changed if one.interaction is not None}
    held = {name for bag in bags.values() for name, slot in bag.slots.items() if slot.since_return}
    codes = {name: embedded[item.picture] for name, item in data.items.items() if name in held and item.picture}
    return {
        tag + user: ranked_anew(
            bundle,
            settings,
            bags,
            user=user,
            moment=max(slot.last.timestamp for slot in bag.slots.values()),
            codes=codes,
        )
        for user, bag in bags.items()
    }


def other_items(system: System, wanted: dict[str, list[tuple[str, float, str | None]]]) -> list[tuple[str, Any, Any]]:
    """The users who are recommended other items than they have to be, by the serve worker."""
    found: list[tuple[str, Any, Any]] = []
    for user, ranked in wanted.items():
        status, text = system.get("serve", f"/v1/users/{user}/recommendations?items=12&diversity=0&at=event")
        assert status == 200, text
        answered = [(one["item_id"], one["score"], one["because"]) for one in json.loads(text)["items"]]
        near = (abs(one[1] - other[1]) < NEAR for one, other in zip(answered, ranked, strict=False))
        scores = {name: (score, because) for name, score, because in ranked}
        own = (abs(score - scores[name][0]) < NEAR and because == scores[name][1] for name, score, because in answered)
        if not (len(answered) == min(12, len(ranked)) and all(near) and all(own)):
            found.append((user, answered, ranked[:12]))
    return found


async def test_online_equals_offline_and_dead_letters_are_counted(system: System, folder: Path, tmp_path: Path) -> None:
    events = list(PreparedDataset(folder).events(EventSelection()))
    run = tmp_path / "run"
    with (
        system.workers("embed", "profile", "serve"),
        replaying(system, folder, run, "--check", "--tag", "plain-") as process,
    ):
        code, printed = ended(process)
        assert code == 0, printed
        found = check(tmp_path / "run", len(events))
        lost = sum(event.item == LOST and event.type != "return" for event in events)
        [(reason, count)] = found["played"]["without_recommendation"].items()
        assert (reason, count) == ("http_status", lost)  # the server of the pictures does not send it
        everything = found["groups"][0]
        assert everything["targets"] == sum(event.type == "purchase" for event in events)
        assert everything["figures"]["recommended"]["hit@1"] > everything["figures"]["popularity"]["hit@1"]
        assert found["latency"]["p50"] > 0
        assert sum(span["answers"] for span in found["latency_over_time"]) == len(events) - lost
        assert found["notes"] == []
        assert "online = offline:          identical" in printed
        ids = await played(system, "plain-")
        assert len(ids) == len(set(ids)) == len(events)
        items = recommended_offline(folder, "plain-")
        assert len(items) == USERS and all(len(ranked) > 12 for ranked in items.values())
        wait_until(lambda: not other_items(system, items), SECONDS, lambda: str(other_items(system, items)))

        with replaying(system, folder, tmp_path / "run", "--check", "--tag", "plain-") as again:
            assert ended(again)[0] == 0
        assert sorted(await played(system, "plain-")) == sorted(ids), "a finished run sends nothing"

        with replaying(system, folder, tmp_path / "other", "--check", "--tag", "plain-") as again:
            code, printed = ended(again)
        assert code == 1
        assert "NOT identical" in printed
        assert "these users have earlier events on the same topics" in printed


async def test_online_equals_offline_with_the_trend(system: System, folder: Path, tmp_path: Path) -> None:
    bundle = write_trending(tmp_path / "trending")
    trending = System(system.broker, tmp_path, namespace="trending", bundle=bundle, trend_interval=0.2)
    total, out = PreparedDataset(folder).overview(EventSelection()).events, tmp_path / "run"
    with trending.workers(), replaying(trending, folder, out, "--check", "--rate", "100/s") as process:
        code, printed = ended(process)
    assert code == 0, printed
    check(out, total)
    versions = [answer[8] for answer in answers(out) if len(answer) > 8]
    assert len(set(versions)) > 5, "the trend went on meanwhile"


@pytest.mark.slow
async def test_killed_workers_change_no_figure(system: System, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    total = PreparedDataset(folder).overview(EventSelection()).events
    options = ("--check", "--tag", "killed-", "--rate", "60/s")
    with system.workers(), replaying(system, folder, out, *options) as process:
        for share, kind in ((0.2, "profile"), (0.5, "embed"), (0.7, "profile")):
            wait_until(lambda share=share: len(answers(out)) > share * total, SECONDS)
            os.kill(system.worker_pid(kind), signal.SIGKILL)
        code, printed = ended(process)
        assert code == 0, printed
    check(out, total)


@pytest.mark.slow
async def test_a_stopped_or_killed_replay_resumes_without_gaps(system: System, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    total = PreparedDataset(folder).overview(EventSelection()).events
    options = ("--check", "--tag", "stopped-", "--rate", "150/s", "--lead", "40")
    with system.workers():
        with replaying(system, folder, out, *options) as process:
            wait_until(lambda: len(answers(out)) > 0.2 * total, SECONDS)
            process.send_signal(signal.SIGINT)
            code, printed = ended(process)
            done = len(answers(out))
            assert code == 130, printed
            assert f"stopped after {done} of {total} events; run the same command again to resume" in printed
            assert 0.2 * total < done < total
        with replaying(system, folder, out, *options) as process:
            wait_until(lambda: len(answers(out)) > 0.6 * total, SECONDS)
            process.kill()
            process.wait()
        with replaying(system, folder, out, *options, "--users", "0.5") as process:
            code, printed = ended(process)
            assert code == 1
            assert "holds another replay: its users is 1.0, not 0.5: choose another --out" in " ".join(printed.split())
        with replaying(system, folder, out, *options) as process:
            code, printed = ended(process)
            assert code == 0, printed
    check(out, total)
    ids = await played(system, "stopped-")
    assert len(set(ids)) == total
    assert len(ids) <= total + 40, "only events that were in flight at the kill are sent again"


@pytest.mark.slow
async def test_a_replay_waits_for_a_broker_that_is_down(system: System, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    total = PreparedDataset(folder).overview(EventSelection()).events
    with (
        system.workers(),
        replaying(system, folder, out, "--check", "--tag", "away-", "--rate", "100/s") as process,
    ):
        wait_until(lambda: len(answers(out)) > 0.3 * total, SECONDS)
        await asyncio.to_thread(system.broker.kill)
        before = len(answers(out))
        time.sleep(30)  # noqa: ASYNC251 -- the broker is down for that long
        assert process.poll() is None
        assert len(answers(out)) <= before + 40
        await asyncio.to_thread(system.broker.start)
        code, printed = ended(process)
        assert code == 0, printed
    check(out, total)
