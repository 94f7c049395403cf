"""The answers that the events alone imply, computed without Kafka, Faust or RocksDB, from the fold of the bag and a bundle.

The check compares them with the answers of the workers: online must equal offline. The answers of bundles that are not served
come only from here.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from model.bundle import Bundle
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers.embeddings import Embeddings
from offline_training.replay.answers.table import Answers
from offline_training.replay.play.event_answer import EventAnswer, category_numbers, event_answer
from offline_training.replay.play.events import EventStream, PlayedEvent, PlayedItem
from offline_training.replay.play.messages import Naming
from offline_training.replay.progress import track
from streams.messages import PICTURED, EmbeddedInteraction, Recommendation, with_embedding
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.settings import Settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 256  # events scored per call of the network


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
    """

    settings: Settings
    stream: EventStream
    naming: Naming
    dead: Collection[int]
    embeddings: Embeddings
    scored: Collection[int] | None = None

    def answers(self, bundle: Bundle, categories: Sequence[str], top: int, title: str) -> Answers:
        """Compute the answers of a bundle to all events.

        Args:
            bundle: the bundle.
            categories: the categories in the order of their numbers in the answers.
            top: maximum number of categories in a recommendation.
            title: of the progress bars.
        """
        events = len(self.stream)
        pictures = self._pictures(track(self.stream.events(), f"{title}: pictures", events))
        embedded = self.embeddings.of(bundle, pictures)
        messages = self._messages(track(self.stream.events(), f"{title}: events", events), bundle, embedded)
        return Answers.of(expected_answers(messages, categories), events, top)

    def recommendations(self, bundle: Bundle, events: Sequence[PlayedEvent]) -> Iterator[tuple[int, Recommendation]]:
        """Yield the place and the recommendation of each event that has one. `events`: all events of some users."""
        embedded = self.embeddings.of(bundle, self._pictures(events))
        for place, message in self._messages(events, bundle, embedded):
            if not isinstance(message, str):
                yield place, message

    def _pictures(self, events: Iterable[PlayedEvent]) -> Iterator[PictureRef]:
        for event in events:
            if event.type in PICTURED and (picture := self.stream.items[event.item].picture):
                yield picture

    def _messages(
        self, events: Iterable[PlayedEvent], bundle: Bundle, embedded: Mapping[PictureRef, bytes]
    ) -> Iterator[tuple[int, Recommendation | str]]:
        return expected_messages(
            events, self.stream.items, embedded, bundle, self.settings, naming=self.naming, dead=self.dead, scored=self.scored,
        )  # fmt: skip


def expected_messages(
    events: Iterable[PlayedEvent],
    items: Mapping[str, PlayedItem],
    embedded: Mapping[PictureRef, bytes],
    bundle: Bundle,
    settings: Settings,
    *,
    naming: Naming,
    dead: Collection[int] = (),
    scored: Collection[int] | None = None,
) -> Iterator[tuple[int, Recommendation | str]]:
    """Fold the events into bags, one after the other, and score each bag.

    An event that became a dead letter, or whose picture has no embedding, changes no bag and has no recommendation.

    Args:
        events: in time order.
        items: the items, by id.
        embedded: embeddings by picture.
        bundle: scores the bags.
        settings: the settings of the workers.
        naming: the ids of events and users.
        dead: places of events that became dead letters.
        scored: as in `Offline`.

    Yields:
        The place of each event that is scored, with its recommendation, or the reason why there is none.
    """
    options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
    recommender = Recommender(bundle, bundle.aggregator(), options)
    bags: dict[str, Bag] = {}
    remaining = iter(events)
    while batch := list(islice(remaining, BATCH)):
        places: list[int] = []
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        for event in batch:
            picture = items[event.item].picture if event.type in PICTURED else None
            embedding = b"" if picture is None else embedded.get(picture)
            if event.place in dead or embedding is None:
                yield event.place, "dead letter" if event.place in dead else "no picture"
                continue
            interaction = with_embedding(naming.interaction(event, ""), bundle.embedder_version, embedding)
            before = bags.get(interaction.user_id, Bag())
            bag = fold(before, interaction, max_slots=settings.max_slots, kept={bundle.embedder_version})
            bags[interaction.user_id] = bag
            if scored is None or event.place in scored:
                places.append(event.place)
                caused.append((interaction, bag))
        for place, message in zip(places, recommender.recommend(caused, now=EPOCH), strict=True):
            yield place, "erased" if message is None else message


def expected_answers(
    messages: Iterable[tuple[int, Recommendation | str]], categories: Sequence[str]
) -> Iterator[EventAnswer]:
    """Turn what `expected_messages` yields into answers. categories: in the order of their numbers in the answers."""
    numbers = category_numbers(categories)
    for place, message in messages:
        yield (
            EventAnswer(place, reason=message) if isinstance(message, str) else event_answer(place, message, numbers)
        )
