"""The answers that the events must have, without Kafka, Faust or RocksDB: the fold and the bundle, an event at a time.

What the run saw on `user-recommendations` is held against it: online equals offline. What other bundles would have said of the
same events is computed by it alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np

from model.bundle import Bundle
from offline_training.datasets.picture_ref import PictureRef
from offline_training.replay.answers import Answer, Answers, answer
from offline_training.replay.messages import Naming
from offline_training.replay.source import Event, PlayedItem
from streams.messages import PICTURED, EmbeddedInteraction, Recommendation, with_embedding
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.settings import Settings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 256  # events scored in one step


def expected_messages(
    events: Iterable[Event],
    items: Mapping[str, PlayedItem],
    embedded: Mapping[PictureRef, bytes],
    bundle: Bundle,
    settings: Settings,
    *,
    naming: Naming,
    dead: Collection[int] = (),
) -> Iterator[tuple[int, Recommendation | str]]:
    """The place of each event with its recommendation, or why there is none, when those of a user are folded one after the other.

    The events at the places `dead` became dead letters: they change no bag, and have no recommendation; nor has an event whose
    picture is not in `embedded`.
    """
    options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
    recommender = Recommender(bundle, bundle.aggregator(), options)
    bags: dict[str, Bag] = {}
    remaining = iter(events)
    while some := list(islice(remaining, BATCH)):
        places: list[int] = []
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        for event in some:
            picture = items[event.item].picture if event.type in PICTURED else None
            embedding = b"" if picture is None else embedded.get(picture)
            if event.place in dead or embedding is None:
                yield event.place, "dead letter" if event.place in dead else "no picture"
                continue
            interaction = with_embedding(naming.interaction(event, ""), bundle.embedder_version, embedding)
            before = bags.get(interaction.user_id, Bag())
            bag = fold(before, interaction, max_slots=settings.max_slots, embedder_version=bundle.embedder_version)
            bags[interaction.user_id] = bag
            places.append(event.place)
            caused.append((interaction, bag))
        for place, message in zip(places, recommender.recommend(caused, now=EPOCH), strict=True):
            yield place, "erased" if message is None else message


def expected_answers(
    messages: Iterable[tuple[int, Recommendation | str]], categories: Sequence[str]
) -> Iterator[Answer]:
    """What `expected_messages` gives, as answers. categories: in the order of the numbers that answers have for them."""
    numbers = {category: number for number, category in enumerate(categories)}
    for place, message in messages:
        yield Answer(place, reason=message) if isinstance(message, str) else answer(place, message, numbers)


@dataclass
class Agreement:
    """What the workers said beside what is expected, over the events that were answered."""

    compared: int = 0
    missing: int = 0
    """Only one of the two has a recommendation."""
    other_bag: int = 0
    """The bags differ in size."""
    other_order: int = 0
    """The same bag, but other categories, or the same in another order."""
    largest_difference: float = 0.0
    """Of two scores of one category."""
    same_figures: bool = False
    """Whether each figure of each target is the same number."""

    @property
    def identical(self) -> bool:
        """Whether both know the same, and say the same."""
        return self.same_figures and not self.missing and not self.other_bag

    def told(self) -> dict[str, Any]:
        return {"identical": self.identical, **asdict(self)}


def compare(online: Answers, offline: Answers) -> Agreement:
    """Answer by answer."""
    found = Agreement(
        compared=int(online.given.sum()), missing=int((online.recommended != offline.recommended)[online.given].sum())
    )
    for place in np.flatnonzero(online.recommended & offline.recommended).tolist():
        if online.bag_size[place] != offline.bag_size[place]:
            found.other_bag += 1
            continue
        (ours, our_scores), (theirs, their_scores) = online.scores(place), offline.scores(place)
        found.other_order += not np.array_equal(ours, theirs)
        both = dict(zip(theirs.tolist(), their_scores.tolist(), strict=True))
        differences = [
            abs(score - both[one]) for one, score in zip(ours.tolist(), our_scores.tolist(), strict=True) if one in both
        ]
        found.largest_difference = max(found.largest_difference, *differences, 0.0)
    return found
