"""Whether a bundle has learnt from the users or events that are played."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from model.bundle.manifest import Data
from model.fingerprint import event_name, fingerprint
from offline_training.replay.evaluation.learnt import Learnt, known_events, learnt_of
from offline_training.replay.play.events import EventSelection, EventStream, PlayedEvent, PreparedDataset
from tests.command import Command
from tests.offline_training.replay.finished import finish, variant
from tests.offline_training.replay.made import DAY, shop
from tests.offline_training.replay.test_prequential import stream

USERS, EACH = 4, 10


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> EventStream:
    dataset = PreparedDataset(shop(tmp_path_factory.mktemp("learnt") / "shop", users=USERS, each=EACH))
    return EventStream(dataset, EventSelection(), dataset.overview(EventSelection()))


def bundle_of(folder: Path, events: list[PlayedEvent], *, date: str = "2026-11-28T12:00:00Z") -> Path:
    """Write a bundle that has learnt from some events."""
    names = {event.user for event in events}
    data = Data(
        "a shop", len(names), 9, len(events), "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z", fingerprint(names),
        fingerprint(event_name(one.user, one.item, one.time) for one in events),
    )  # fmt: skip

    def change(manifest: dict[str, Any]) -> None:
        manifest["data"] = msgspec.to_builtins(data)
        manifest["training"] |= {"date": date, "command": "tastestream train bundle shop"}

    return variant(folder, change)


def learnt(folder: Path, events: list[PlayedEvent], played: EventStream) -> Learnt:
    found = learnt_of(Bundle.load(bundle_of(folder, events)), played)
    assert found is not None
    return found


def test_users_and_events_that_a_bundle_learnt_from_are_recognised(played: EventStream, tmp_path: Path) -> None:
    events = [event for event in played.events() if event.type != "return"]
    some = [event for event in events if event.user in {"user-0", "user-3"}]
    found = learnt(tmp_path / "some", some, played)
    assert (found.known_users, found.compared_users) == (2, USERS)
    distinct = {(event.user, event.item, event.time // DAY) for event in events}
    assert found.compared_events == len(distinct), "two events of an item on one day are one"
    assert found.known_events == len({(event.user, event.item, event.time // DAY) for event in some})
    assert (found.date, found.source, found.events) == ("2026-11-28T12:00:00Z", "a shop", len(some))


def test_the_same_users_with_other_events_are_told_apart(played: EventStream, tmp_path: Path) -> None:
    earlier = [event._replace(time=event.time - 400 * DAY) for event in played.events()]
    found = learnt(tmp_path / "earlier", earlier, played)
    assert (found.known_users, found.known_events) == (USERS, 0)


def test_a_bundle_that_does_not_say_what_it_learnt_from_is_not_judged(played: EventStream, tmp_path: Path) -> None:
    assert (
        learnt_of(Bundle.load(variant(tmp_path / "silent", lambda manifest: manifest.pop("data", None))), played)
        is None
    )


def test_returns_teach_nothing() -> None:
    events = stream(("ada", "hat", "return", 1), ("ada", "tie", "purchase", 2), ("ada", "tie", "view", 3))
    sample = fingerprint([event_name("ada", "hat", 1)])
    assert known_events(sample, events) == (0, 1)


@pytest.mark.slow
def test_a_replay_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], played: EventStream, tmp_path: Path
) -> None:
    folder = played.dataset.folder
    events = [event for event in played.events() if event.type != "return"]
    known = bundle_of(tmp_path / "known", events)
    finish(folder, tmp_path / "run", known)
    monkeypatch.setenv("COLUMNS", "400")
    command = Command(monkeypatch, capsys)
    done = command("replay", str(folder), "--out", str(tmp_path / "run"), TASTESTREAM_BUNDLE=str(known))
    assert done.code == 0, done.err
    [said] = [line for line in done.out.splitlines() if " has learnt from " in line]
    assert f"has learnt from {USERS} of {USERS} users that were compared" in said
    assert said.endswith("its figures are too high for users and events that it has not seen.")
    assert "2026-11-28T12:00:00Z" in done.out and "tastestream train bundle shop" in done.out
    assert said in (tmp_path / "run" / "report.md").read_text()
    kept = json.loads((tmp_path / "run" / "results.json").read_text())["learnt"]["recommended"]
    assert kept["known_users"] == USERS

    other = bundle_of(tmp_path / "other", [event._replace(user=f"{event.user}-else") for event in events])
    finish(folder, tmp_path / "again", other)
    done = command("replay", str(folder), "--out", str(tmp_path / "again"), TASTESTREAM_BUNDLE=str(other))
    assert "has learnt from" not in done.out, "nothing to warn of"
    assert (
        f"has learnt from none of these users and events: 0 of {USERS} users"
        in (tmp_path / "again" / "report.md").read_text()
    )
