"""The manifest says what a bundle learnt from, so that a replay can tell whether it plays the same users or events."""

import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.fingerprint import event_name, known_in
from offline_training.datasets.labels import LabelRule
from offline_training.datasets.prepare import prepare
from offline_training.datasets.records import DatasetEvent, DatasetItem
from offline_training.tasks.catalogue import Catalogue
from offline_training.tasks.learnt import learnt_data, learnt_pictures
from tests.offline_training.datasets.sources import Given, no_step

DAY = 86_400_000
START = 1_600_000_000_000
USERS = [f"user-{number}" for number in range(200)]
ITEMS = [f"item-{number}" for number in range(20)]
HELD_OUT = [user for user in USERS if zlib.crc32(user.encode()) % 10 == 0]
NOTHING = np.zeros(len(ITEMS), bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each user takes three items on three days, and returns one of them later."""
    events = [
        DatasetEvent(
            user, ITEMS[(number + step) % len(ITEMS)], "return" if step == 3 else "purchase", START + step * DAY
        )
        for number, user in enumerate(USERS)
        for step in (0, 1, 2, 3)
    ]
    items = [DatasetItem(item, None, ((f"kind {number % 2}",),)) for number, item in enumerate(ITEMS)]
    path = tmp_path_factory.mktemp("learnt")
    prepare(
        Given(events, items), "a shop", path, rule=LabelRule(1, 1, 1), pictures=None, step=no_step, pictureless=True
    )
    return path


def catalogue() -> Catalogue:
    matrix = np.eye(2, dtype=bool)[np.arange(len(ITEMS)) % 2]
    return Catalogue(ITEMS, ["kind 0", "kind 1"], np.ones((len(ITEMS), 3), np.float32), matrix, 0)


def test_held_out_users_and_returns_are_not_learnt_from(folder: Path) -> None:
    data = learnt_data(folder, catalogue(), "next", new=NOTHING)
    seen = len(USERS) - len(HELD_OUT)
    assert (data.source, data.users, data.items, data.events) == ("a shop", seen, len(ITEMS), 3 * seen)
    assert (data.from_time, data.to_time) == ("2020-09-13T12:26:40Z", "2020-09-15T12:26:40Z")
    assert known_in(data.user_ids, USERS) == (seen, len(USERS))
    assert known_in(data.user_ids, HELD_OUT).known == 0
    user = next(user for user in USERS if user not in HELD_OUT)
    at = USERS.index(user)
    played = [event_name(user, ITEMS[(at + step) % len(ITEMS)], START + step * DAY + 5) for step in (0, 1, 2, 3)]
    assert known_in(data.user_items, played) == (3, 4)


def test_of_unseen_items_are_held_out_instead_of_users(folder: Path) -> None:
    new = np.arange(len(ITEMS)) == 0
    data = learnt_data(folder, catalogue(), "unseen", new=new)
    assert (data.users, data.items, data.events) == (len(USERS), len(ITEMS) - 1, 3 * len(USERS) - 30)


def test_users_who_are_set_apart_are_not_learnt_from(folder: Path) -> None:
    seen = [user for user in USERS if user not in HELD_OUT]
    data = learnt_data(folder, catalogue(), "purchases", apart={seen[0], seen[1], HELD_OUT[0], "a stranger"})
    assert (data.users, data.items, data.events) == (len(seen) - 2, len(ITEMS), 3 * (len(seen) - 2))
    assert known_in(data.user_ids, seen[:2]).known == 0
    assert known_in(data.user_ids, seen[2:]).known == len(seen) - 2


def test_pictures_alone_tell_nothing_about_users() -> None:
    data = learnt_pictures("clothes", 15)
    assert (data.source, data.users, data.items, data.events) == ("clothes", 0, 15, 0)
    assert known_in(data.user_ids, USERS) == (0, len(USERS))
    assert known_in(data.user_items, [event_name(USERS[0], ITEMS[0], START)]) == (0, 1)


@pytest.mark.parametrize(("until", "days"), [(START + DAY, 1), (START + 2 * DAY, 2), (START, 0)])
def test_later_events_are_not_learnt_from(folder: Path, until: int, days: int) -> None:
    data = learnt_data(folder, catalogue(), "next", new=NOTHING, until=until)
    assert data.events == days * (len(USERS) - len(HELD_OUT))
    assert (data.from_time == "") == (days == 0)
