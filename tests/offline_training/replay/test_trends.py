"""Bundles that use the trend: the answers that the events imply, the versions that answers name, and reads at targets."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

from model.bundle import Bundle
from offline_training.progress import Advance
from offline_training.replay.answers.agreement import compare
from offline_training.replay.answers.bags import Changed, changed_bags
from offline_training.replay.answers.embeddings import embedded_pictures
from offline_training.replay.answers.expected import answers_at, expected_answers, expected_messages
from offline_training.replay.answers.table import Answers
from offline_training.replay.answers.trends import DailyTrends, NamedTrends, TopicTrends, daily_trends
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.play.event_answer import EventAnswer, category_numbers, event_answer
from offline_training.replay.play.events import EventSelection, PlayedEvent, PreparedDataset
from offline_training.replay.play.messages import Naming
from streams.kafka.records import Record
from streams.profile.bag import Bag, Embedder
from streams.profile.counts import counted, in_hundredths
from streams.profile.scoring import Recommender, ScoringOptions
from streams.settings import read_settings
from streams.trend.snapshots import encode_snapshot, partition_key, snapshot_of
from streams.trend.trend import DAY, Trend
from tests.bundles import write_trending
from tests.offline_training.replay.made import shop
from tests.records import record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMING = Naming("x")


def quiet(_: int) -> None:
    pass


class World:
    """Six users, two events of each a day, scored by a bundle that uses the trend."""

    def __init__(self, folder: Path) -> None:
        self.settings = read_settings()
        self.bundle = Bundle.load(write_trending(folder / "trending"))
        labels = self.bundle.item_labels()
        assert labels is not None
        self.labels = labels
        self.data = PreparedDataset(shop(folder / "shop", users=6, each=15))
        self.events = list(self.data.events(EventSelection()))
        pictures = sorted({item.picture for item in self.data.items.values() if item.picture}, key=str)
        advance: Advance = quiet
        self.embedded = embedded_pictures(self.settings, self.bundle.embedder(), pictures, self.data.folders, advance)
        options = ScoringOptions(64, 10, self.settings.type_weights, self.settings.half_life)
        self.recommender = Recommender(self.bundle, self.bundle.aggregator(), options)
        self.numbers = category_numbers(self.bundle.categories)

    def changed(self, events: Sequence[PlayedEvent]) -> list[Changed]:
        return list(changed_bags(events, self.data.items, self.embedded, self.bundle, self.settings, naming=NAMING))

    def daily(self, events: Sequence[PlayedEvent]) -> DailyTrends:
        version, weights = self.bundle.embedder_version, self.settings.type_weights
        return daily_trends(self.changed(events), self.labels, embedder_version=version, type_weights=weights)

    def table(self, answers: Sequence[EventAnswer]) -> Answers:
        return Answers.of(answers, len(self.events), 10)

    def offline(self, events: Sequence[PlayedEvent]) -> Answers:
        """The answers of a bundle that is not served."""
        messages = expected_messages(self.changed(events), self.bundle, self.settings, trends=self.daily(events))
        return self.table(list(expected_answers(messages, self.bundle.categories)))

    def bags(self, events: Sequence[PlayedEvent]) -> dict[str, Bag]:
        return {one.event.user: one.after for one in self.changed(events)}

    def counts(self, events: Sequence[PlayedEvent]) -> dict[int, np.ndarray]:
        """What the bags after some events add to the trend, one slot at a time."""
        embedder = Embedder(self.bundle.embedder_version, 8 + self.bundle.embedding_size)
        hundredths = in_hundredths(self.settings.type_weights)
        rows: dict[int, np.ndarray] = {}
        for bag in self.bags(events).values():
            for slot in bag.slots.values():
                item = counted(slot, embedder=embedder, hundredths=hundredths)
                if item is not None:
                    [share] = self.labels.of([item.embedding])
                    rows[item.day] = rows.get(item.day, 0) + item.weight * share
        return rows

    def asked(self, event: PlayedEvent, events: Sequence[PlayedEvent], trend: Trend) -> EventAnswer:
        """The answer to a read of a user's bag after some events."""
        bag = self.bags(events).get(event.user, Bag())
        [answer] = self.recommender.answers([(bag, event.time)], trend)
        scores = [(self.numbers[one.category], one.score) for one in answer.categories]
        return EventAnswer(event.place, len(answer.items), not answer.items, scores)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


# Bundles that are not served


def test_the_trend_of_a_day_is_the_sum_over_the_bags_at_its_start(world: World) -> None:
    daily = world.daily(world.events)
    for event in world.events[::7]:
        before = [one for one in world.events if one.time // DAY < event.time // DAY]
        expected = Trend(None, world.counts(before), len(world.bundle.categories))
        found = daily.at(event.place, event.time)
        assert np.array_equal(found.at(event.time), expected.at(event.time))
        assert np.array_equal(found.at(event.time + DAY - 1), expected.at(event.time + DAY - 1))
    assert not daily.at(0, 0).at(0).any(), "before the first event"


@pytest.mark.parametrize(("days", "windows"), [(7, 3), (8, 2), (28, 2), (29, 1), (400, 1)])
def test_an_item_counts_in_the_windows_of_its_age(world: World, days: int, windows: int) -> None:
    last = world.events[-1]
    first = next(event for event in world.events if event.type == "purchase" and event.user != last.user)
    daily = world.daily([first._replace(time=last.time - days * DAY), last])
    assert (
        daily.at(last.place, last.time).at(last.time).any(axis=1).tolist() == [False] * (3 - windows) + [True] * windows
    )


def test_days_without_events_have_the_trend_of_the_day_before(world: World) -> None:
    daily = world.daily(world.events)
    later = world.events[-1].time + 9 * DAY
    assert daily.at(0, later) is daily.at(0, world.events[-1].time)


@pytest.mark.parametrize("days", [400, 21])
def test_a_trend_of_long_ago_stays_in_the_window_of_ever(world: World, days: int) -> None:
    old = [event._replace(time=event.time - days * DAY) for event in world.events[:30]]
    events = [*old, *world.events[30:]]
    last = events[-1]
    before = [one for one in events if one.time < last.time]
    expected = Trend(None, world.counts(before), len(world.bundle.categories)).at(last.time)
    found = world.daily(events).at(last.place, last.time).at(last.time)
    assert np.array_equal(found, expected)
    assert (found[2] > found[1]).any() == (days == 400)
    assert (found[1] > found[0]).any() == (days == 21)


def test_an_answer_depends_on_its_bag_and_on_earlier_days_of_all_users(world: World) -> None:
    whole = world.offline(world.events)
    for cut in (1, 30, 61):
        part = compare(world.offline(world.events[:cut]), whole)
        assert (part.compared, part.missing, part.other_bag) == (cut, 0, 0)
        assert part.largest_difference < 1e-5
    alone = world.offline([event for event in world.events if event.user == "user-0"])
    others = compare(alone, whole)
    assert others.other_bag == 0
    assert others.largest_difference > 1e-3


# Versions


def snapshots(world: World, partitions: int = 2) -> list[Record]:
    """What the workers might write: after every eighth event, the counts of one of two partitions, which users share."""
    found: list[Record] = []
    for number in range(0, len(world.events), 8):
        partition = number // 8 % partitions
        users = {event.user for event in world.events if int(event.user[-1]) % partitions == partition}
        rows = world.counts([event for event in world.events[:number] if event.user in users])
        value = encode_snapshot(snapshot_of(world.bundle.labels_version, len(world.bundle.categories), rows))
        found.append(record("category-trend", offset=len(found), key=partition_key(partition), value=value))
    return found


def topic(world: World, records: Sequence[Record]) -> TopicTrends:
    found = TopicTrends("category-trend", world.bundle)
    for one in records:
        found.add(one)
    return found


def online(world: World, history: TopicTrends) -> list[EventAnswer]:
    """The answers of workers that have read one record of the topic for every eight events."""
    found: list[EventAnswer] = []
    for one in world.changed(world.events):
        assert one.interaction is not None
        trend = history.version(one.event.place // 8)
        [message] = world.recommender.recommend([(one.interaction, one.after)], now=EPOCH, trend=trend)
        assert message is not None
        found.append(event_answer(one.event.place, message, world.numbers))
    return found


def expected_by(world: World, history: TopicTrends, versions: dict[int, int]) -> Answers:
    trends = NamedTrends(history, versions)
    messages = expected_messages(world.changed(world.events), world.bundle, world.settings, trends=trends)
    return world.table(list(expected_answers(messages, world.bundle.categories)))


def test_answers_are_computed_again_from_the_versions_that_they_name(world: World) -> None:
    history = topic(world, snapshots(world))
    answers = world.table(online(world, history))
    assert len(set(answers.trend_versions.values())) > 5
    again = expected_by(world, history, answers.trend_versions)
    found = compare(answers, again)
    assert (found.compared, found.missing, found.other_bag) == (len(world.events), 0, 0)
    assert found.largest_difference < 1e-5
    assert again.trend_versions == answers.trend_versions
    shifted = {place: version - 1 for place, version in answers.trend_versions.items() if version > 0}
    assert compare(answers, expected_by(world, history, shifted)).largest_difference > 1e-3


@pytest.mark.parametrize(
    ("kept", "known"),
    [
        (range(12), range(12)),
        ([*range(3, 12)], range(4, 12)),  # 3 is of one partition, and that of the other is gone
        ([4, 6, 8, 9, 10, 11], {9, 10, 11}),  # nothing of the other partition before 9
        ([10, 11], {11}),
        ([], set()),
    ],
)
def test_a_version_is_known_as_long_as_the_topic_has_what_it_was_made_of(
    world: World, kept: Sequence[int], known: Sequence[int]
) -> None:
    records = snapshots(world)
    history, whole = topic(world, [records[place] for place in kept]), topic(world, records)
    for version in range(14):
        if version in known:
            at = world.events[-1].time
            assert np.array_equal(history.version(version).at(at), whole.version(version).at(at))
        else:
            with pytest.raises(
                ReplayError, match=f"version {version} of the trend, and topic category-trend no longer"
            ):
                history.version(version)
    assert not history.version(None).at(world.events[-1].time).any()


# Reads


@pytest.mark.parametrize("delay", [0, 1, DAY, 3 * DAY + 5])
def test_a_read_knows_what_was_there_before_its_time(world: World, delay: int) -> None:
    daily = world.daily(world.events)
    answers = list(
        answers_at(
            world.changed(world.events),
            world.bundle,
            world.settings,
            trends=daily,
            delay=delay,
            asked=lambda event: event.type == "purchase" and event.user != "user-3",
            categories=world.bundle.categories,
        )
    )
    targets = [event for event in world.events if event.type == "purchase" and event.user != "user-3"]
    assert [one.place for one in answers] == [event.place for event in targets]
    found = world.table(answers)
    for event in targets[::5]:
        earlier = [one for one in world.events if one.time < event.time and one.time <= event.time - delay]
        known = daily.at(event.place, event.time - delay)
        agreement = compare(found, expected := world.table([world.asked(event, earlier, known)]))
        assert (agreement.other_bag, agreement.largest_difference < 1e-5) == (0, True)
        assert found.bag_size[event.place] == expected.bag_size[event.place]
        assert found.cold_start[event.place] == (found.bag_size[event.place] == 0)


def test_a_read_is_not_what_was_recommended_after_the_event_before(world: World) -> None:
    reads = world.table(
        list(
            answers_at(
                world.changed(world.events),
                world.bundle,
                world.settings,
                trends=world.daily(world.events),
                delay=0,
                asked=lambda _: True,
                categories=world.bundle.categories,
            )
        )
    )
    assert reads.count == len(world.events)
    assert compare(reads, world.offline(world.events)).largest_difference > 1e-3


# The table


def test_the_table_keeps_the_values_of_fields_and_the_version_of_an_answer() -> None:
    answers = Answers(4, top=2)
    answers.add(EventAnswer(2, 1, False, [(7, 1.0), (3, 0.5)], values=[(3, 0.5), (1, 0.25), (7, 1.0)], trend_version=9))
    answers.add(EventAnswer(1, 1, False, [(7, 1.0)]))
    assert answers.trend_versions == {2: 9}
    assert answers.listed(2).values.tolist() == [3, 1, 7]
    assert answers.listed(1).values.tolist() == []


def test_reads_have_the_values_of_the_fields(world: World) -> None:
    [found, *_] = answers_at(
        world.changed(world.events), world.bundle, world.settings, trends=world.daily(world.events), delay=0,
        asked=lambda _: True, categories=world.bundle.categories,
    )  # fmt: skip
    first, second = found.values[:3], found.values[3:]
    assert (len(first), len(second)) == (3, 3)
    ends = world.bundle.fields[0].categories
    assert all(place in ends for place, _ in first)
    assert not any(place in ends for place, _ in second)
