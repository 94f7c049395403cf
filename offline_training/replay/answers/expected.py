"""The answers that the events alone imply, computed without Kafka, Faust or RocksDB, from the fold of the bag and a bundle.

The check compares them with the answers of the workers: online must equal offline. The answers of bundles that are not served
come only from here, and those to somebody who asks at the time of a target.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from model.bundle import Bundle
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers.bags import Changed, by_moment, changed_bags
from offline_training.replay.answers.embeddings import Embeddings
from offline_training.replay.answers.table import Answers
from offline_training.replay.answers.trends import DailyTrends, NamedTrends, NoTrends, TopicTrends, Trends, daily_trends
from offline_training.replay.play.event_answer import EventAnswer, category_numbers, event_answer
from offline_training.replay.play.events import EventStream, PlayedEvent
from offline_training.replay.play.messages import Naming
from offline_training.replay.progress import track
from streams.messages import PICTURED, Recommendation
from streams.profile.bag import Bag
from streams.profile.scoring import Recommender, ScoringOptions
from streams.settings import Settings
from streams.trend.trend import Trend

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 256  # events scored per call of the network


class History(NamedTuple):
    """All events of a stream as a bundle sees them."""

    codes: Mapping[str, bytes]
    """Of the pictures of the items that were played, as `quantize` stores them, by item."""
    trends: Trends
    """Those of the days before."""
    changed: Iterator[Changed]
    """The events with their bags, in time order."""


@dataclass(frozen=True)
class Offline:
    """Computes expected recommendations, for any bundle.

    Attributes:
        settings: the settings of the workers.
        stream: the events.
        naming: the ids of events and users.
        dead: places of events that became dead letters in the run.
        embeddings: embeds the pictures.
        scored: places whose recommendations are computed. Other events change the bags only. None: all are computed.
        topic: the versions of the trend that the workers wrote. None: the trend is computed here.
    """

    settings: Settings
    stream: EventStream
    naming: Naming
    dead: Collection[int]
    embeddings: Embeddings
    scored: Collection[int] | None = None
    topic: TopicTrends | None = None
    _daily: dict[str, DailyTrends] = field(default_factory=dict[str, DailyTrends])  # by labels version

    def answers(
        self, bundle: Bundle, categories: Sequence[str], top: int, title: str, online: Answers | None = None
    ) -> Answers:
        """Compute the answers of a bundle to all events.

        Args:
            bundle: the bundle.
            categories: the categories in the order of their numbers in the answers.
            top: maximum number of categories in a recommendation.
            title: of the progress bars.
            online: the answers of the workers, whose versions of the trend are used if they were read. None: the trend is that of
                the days before.

        Raises:
            ReplayError: a version of the trend is no longer on the topic.
        """
        events, embedded = len(self.stream), self._embedded(bundle, title)
        trends = self._trends(bundle, title, online)
        changed = self._changed(track(self.stream.events(), f"{title}: events", events), bundle, embedded)
        messages = expected_messages(changed, bundle, self.settings, trends=trends, scored=self.scored)
        return Answers.of(expected_answers(messages, categories), events, top)

    def reads(
        self,
        bundle: Bundle,
        categories: Sequence[str],
        top: int,
        title: str,
        *,
        asked: Callable[[PlayedEvent], bool],
        delay: int,
    ) -> Answers:
        """Compute the answers to somebody who asks at the time of some events, without knowing them.

        Args:
            bundle: the bundle.
            categories: as in `answers`.
            top: as in `answers`.
            title: of the progress bars.
            asked: tells at which events somebody asks.
            delay: milliseconds of event time until an event counts; 0: all of earlier times count.

        Returns:
            The answers, at the places of those events.
        """
        events, embedded = len(self.stream), self._embedded(bundle, title)
        trends = self._trends(bundle, title, None)
        changed = self._changed(track(self.stream.events(), f"{title}: events", events), bundle, embedded)
        answers = answers_at(
            changed, bundle, self.settings, trends=trends, asked=asked, delay=delay, categories=categories
        )
        return Answers.of(answers, events, top)

    def recommendations(
        self, bundle: Bundle, events: Sequence[PlayedEvent], online: Answers | None = None
    ) -> Iterator[tuple[int, Recommendation]]:
        """Yield the place and the recommendation of each event that has one.

        Args:
            bundle: the bundle.
            events: all events of some users.
            online: as in `answers`.
        """
        embedded = self.embeddings.of(bundle, self._pictures(events))
        trends = self._trends(bundle, bundle.name, online)
        changed = self._changed(events, bundle, embedded)
        for place, message in expected_messages(changed, bundle, self.settings, trends=trends, scored=self.scored):
            if not isinstance(message, str):
                yield place, message

    def history(self, bundle: Bundle, title: str) -> History:
        """Fold all events by a bundle, for whoever needs more than the answers. title: of the progress bars."""
        embedded = self._embedded(bundle, title)
        played = {event.item for event in self.stream.events() if event.type in PICTURED}
        codes = {
            name: code
            for name, item in self.stream.items.items()
            if name in played and item.picture is not None and (code := embedded.get(item.picture)) is not None
        }
        events = track(self.stream.events(), f"{title}: events", len(self.stream))
        return History(codes, self._trends(bundle, title, None), self._changed(events, bundle, embedded))

    def _trends(self, bundle: Bundle, title: str, online: Answers | None) -> Trends:
        version, labels = bundle.labels_version, bundle.item_labels()
        if labels is None:
            return NoTrends(bundle)
        if online is not None and self.topic is not None:
            return NamedTrends(self.topic, online.trend_versions)
        if version not in self._daily:
            embedded = self._embedded(bundle, title)
            events = track(self.stream.events(), f"{title}: trend", len(self.stream))
            changed = self._changed(events, bundle, embedded)
            self._daily[version] = daily_trends(
                changed, labels, embedder_version=bundle.embedder_version, type_weights=self.settings.type_weights
            )
        return self._daily[version]

    def _embedded(self, bundle: Bundle, title: str) -> Mapping[PictureRef, bytes]:
        events = track(self.stream.events(), f"{title}: pictures", len(self.stream))
        return self.embeddings.of(bundle, self._pictures(events))

    def _pictures(self, events: Iterable[PlayedEvent]) -> Iterator[PictureRef]:
        for event in events:
            if event.type in PICTURED and (picture := self.stream.items[event.item].picture):
                yield picture

    def _changed(
        self, events: Iterable[PlayedEvent], bundle: Bundle, embedded: Mapping[PictureRef, bytes]
    ) -> Iterator[Changed]:
        return changed_bags(
            events, self.stream.items, embedded, bundle, self.settings, naming=self.naming, dead=self.dead
        )


def expected_messages(
    changed: Iterable[Changed],
    bundle: Bundle,
    settings: Settings,
    *,
    trends: Trends,
    scored: Collection[int] | None = None,
) -> Iterator[tuple[int, Recommendation | str]]:
    """Score the bag after each event.

    Args:
        changed: the events with their bags, in time order.
        bundle: scores the bags.
        settings: the settings of the workers.
        trends: the trend that each event is scored with.
        scored: as in `Offline`.

    Yields:
        The place of each event that is scored, with its recommendation, or the reason why there is none.
    """
    recommender = recommender_of(bundle, settings)
    remaining = iter(changed)
    while batch := list(islice(remaining, BATCH)):
        found: dict[int, Recommendation | str] = {one.event.place: one.reason for one in batch if one.reason}
        by_trend: dict[int, tuple[Trend, list[Changed]]] = {}  # one call scores the events of one trend
        for one in batch:
            if one.interaction is not None and (scored is None or one.event.place in scored):
                trend = trends.at(one.event.place, one.event.time)
                by_trend.setdefault(id(trend), (trend, []))[1].append(one)
        for trend, some in by_trend.values():
            caused = [(one.interaction, one.after) for one in some if one.interaction is not None]
            for one, message in zip(some, recommender.recommend(caused, now=EPOCH, trend=trend), strict=True):
                found[one.event.place] = "erased" if message is None else message
        yield from sorted(found.items(), key=lambda one: one[0])


def answers_at(
    changed: Iterable[Changed],
    bundle: Bundle,
    settings: Settings,
    *,
    trends: Trends,
    asked: Callable[[PlayedEvent], bool],
    delay: int,
    categories: Sequence[str],
) -> Iterator[EventAnswer]:
    """Score the bag that each user has when somebody asks at the time of some events, by the ages and the trend of that time.

    The arguments are those of `Offline.reads` and `expected_messages`.
    """
    recommender, numbers = recommender_of(bundle, settings), category_numbers(categories)
    asking: list[tuple[PlayedEvent, Bag]] = []
    trend: Trend | None = None

    def answered() -> Iterator[EventAnswer]:
        if trend is not None:
            moments = [(bag, event.time) for event, bag in asking]
            for (event, _), answer in zip(asking, recommender.answers(moments, trend), strict=True):
                scores = [(numbers[one.category], one.score) for one in answer.categories]
                values = [(numbers[one.category], one.score) for field in answer.fields for one in field.values]
                yield EventAnswer(event.place, len(answer.items), not answer.items, scores, values=values)
        asking.clear()

    for moment in by_moment(changed, delay):
        for event in filter(asked, moment.events):
            known = trends.at(event.place, moment.time - delay)
            if known is not trend or len(asking) == BATCH:
                yield from answered()
                trend = known
            asking.append((event, moment.bags.get(event.user, Bag())))
    yield from answered()


def recommender_of(bundle: Bundle, settings: Settings) -> Recommender:
    """Return what scores bags as the workers do."""
    return Recommender(bundle, bundle.aggregator(), ScoringOptions.of(settings))


def expected_answers(
    messages: Iterable[tuple[int, Recommendation | str]], categories: Sequence[str]
) -> Iterator[EventAnswer]:
    """Turn what `expected_messages` yields into answers. categories: in the order of their numbers in the answers."""
    numbers = category_numbers(categories)
    for place, message in messages:
        yield (
            EventAnswer(place, reason=message) if isinstance(message, str) else event_answer(place, message, numbers)
        )
