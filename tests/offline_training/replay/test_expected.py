"""Expected answers depend on earlier events only, and differences from them are found."""

from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from offline_training.datasets.picture_folders import PictureFolders
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers.agreement import compare
from offline_training.replay.answers.bags import changed_bags
from offline_training.replay.answers.embeddings import embedded_pictures
from offline_training.replay.answers.expected import expected_answers, expected_messages
from offline_training.replay.answers.table import Answers
from offline_training.replay.answers.trends import NoTrends
from offline_training.replay.play.event_answer import EventAnswer
from offline_training.replay.play.events import EventSelection, PlayedEvent, PreparedDataset
from offline_training.replay.play.messages import Naming
from streams.settings import Settings, read_settings
from tests.offline_training.datasets.zips import write_zip
from tests.offline_training.replay.made import shop
from tests.streams.warm.shop import open_shop

LOST = "pink-orchid"


class World:
    def __init__(self, folder: Path) -> None:
        self.settings: Settings = read_settings(fetch_allow_networks="127.0.0.0/8")
        self.bundle = Bundle.load()
        self.data = PreparedDataset(shop(folder, users=6, each=15, lost=LOST))
        self.events = list(self.data.events(EventSelection()))
        pictures = sorted({item.picture for item in self.data.items.values() if item.picture}, key=str)
        self.embedded = embedded_pictures(
            self.settings, self.bundle.embedder(), pictures, self.data.folders, lambda _: None
        )

    def answers(
        self,
        events: Sequence[PlayedEvent],
        dead: frozenset[int] = frozenset(),
        scored: Collection[int] | None = None,
    ) -> list[EventAnswer]:
        changed = changed_bags(
            events, self.data.items, self.embedded, self.bundle, self.settings, naming=Naming("x"), dead=dead
        )
        messages = expected_messages(changed, self.bundle, self.settings, trends=NoTrends(self.bundle), scored=scored)
        return list(expected_answers(messages, self.bundle.categories))

    def table(self, answers: Sequence[EventAnswer]) -> Answers:
        found = Answers(len(self.events), 10)
        for one in answers:
            found.add(one)
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_an_answer_does_not_depend_on_later_events(world: World) -> None:
    whole = world.table(world.answers(world.events))
    for cut in (1, 30, 61):
        part = world.table(world.answers(list(islice(world.events, cut))))
        found = compare(part, whole)
        assert (found.compared, found.missing, found.other_bag) == (cut, 0, 0)
        assert found.largest_difference < 1e-5


def test_a_bag_grows_with_its_user_and_shrinks_with_a_return(world: World) -> None:
    items: set[str] = set()
    answers = world.table(world.answers(world.events))
    for event in world.events:
        if event.user == "user-0" and event.item != LOST:
            (items.discard if event.type == "return" else items.add)(event.item)
            assert answers.bag_size[event.place] == len(items)
            assert answers.cold_start[event.place] == (not items)


def test_an_event_without_its_picture_changes_no_bag(world: World) -> None:
    lost = {event.place for event in world.events if event.item == LOST and event.type != "return"}
    assert lost
    answers = world.table(world.answers(world.events))
    assert set(answers.reasons) == lost
    dead = frozenset(event.place for event in world.events if event.user == "user-1")
    others = world.table(world.answers(world.events, dead))
    assert set(others.reasons) == lost | dead


def test_a_difference_is_found(world: World) -> None:
    given = world.answers(world.events)
    whole = world.table(given)
    place = next(one.place for one in given if len(one.scores) > 1)

    def changed(one: EventAnswer) -> Answers:
        return world.table([one if other.place == one.place else other for other in given])

    plain = next(one for one in given if one.place == place)
    assert not compare(whole, whole).missing
    assert compare(changed(EventAnswer(place, reason="timeout")), whole).missing == 1
    assert compare(changed(EventAnswer(place, plain.bag_size + 1, False, plain.scores)), whole).other_bag == 1
    assert compare(changed(EventAnswer(place, plain.bag_size, False, plain.scores[::-1])), whole).other_order == 1
    category, score = plain.scores[0]
    moved = EventAnswer(place, plain.bag_size, False, [(category, score + 0.25), *plain.scores[1:]])
    assert compare(changed(moved), whole).largest_difference == pytest.approx(0.25)


def test_pictures_behind_urls_are_fetched(world: World) -> None:
    with open_shop() as shop:
        urls = [PictureRef(f"{shop.url}/1"), PictureRef(f"{shop.url}/gone")]
        found = embedded_pictures(world.settings, world.bundle.embedder(), urls, PictureFolders(), lambda _: None)
    assert list(found) == urls[:1]


def test_pictures_in_archives_have_the_embeddings_of_files(world: World, tmp_path: Path) -> None:
    [picture] = {item.picture for name, item in world.data.items.items() if name == "compact-digital-camera"}
    assert picture is not None
    data = picture.path.read_bytes()
    archive = write_zip(tmp_path / "a.zip", {"camera.jpg": data, "gone.jpg": b"no picture"})
    pictures = [PictureRef(f"{archive}!/camera.jpg"), PictureRef(f"{archive}!/gone.jpg")]
    found = embedded_pictures(
        world.settings, world.bundle.embedder(), pictures, PictureFolders([tmp_path]), lambda _: None
    )
    assert found == {pictures[0]: world.embedded[picture]}
    tight = world.settings.model_copy(update={"fetch_max_bytes": len(data) - 1})
    assert embedded_pictures(tight, world.bundle.embedder(), pictures, PictureFolders([tmp_path]), lambda _: None) == {}


def test_only_the_wanted_places_are_scored_and_all_change_the_bags(world: World) -> None:
    wanted = frozenset(event.place for event in world.events[40:50])
    some = world.table(world.answers(world.events, scored=wanted))
    whole = world.table(world.answers(world.events))
    assert set(np.flatnonzero(some.recommended).tolist()) == wanted & set(np.flatnonzero(whole.recommended).tolist())
    for place in wanted:
        assert some.bag_size[place] == whole.bag_size[place]
