"""The answers that the events must have, without Kafka, Faust or RocksDB: pictures, the fold, the bundle, an event at a time.

What the run saw on `user-recommendations` is held against it: online equals offline. Pictures in files and archives are read
from there; those behind URLs are fetched as the embed worker does it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.embedder import Embedder
from model.quantization import quantize
from offline_training.catalogue import embed_files
from offline_training.datasets.records import is_url
from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.replay.answers import Answer, Answers, answer
from streams.replay.messages import Naming
from streams.replay.source import Event, Item
from streams.settings import Settings
from streams.warm.collecting import embed_urls

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PICTURED = frozenset({"view", "cart", "purchase"})  # types whose events carry an embedding
BATCH = 256  # events scored in one step


def embedded_pictures(
    settings: Settings, embedder: Embedder, pictures: Sequence[str], advance: Callable[[], object]
) -> dict[str, bytes]:
    """The embeddings as they are stored, by picture; without those that cannot be had."""
    files = [picture for picture in pictures if not is_url(picture)]
    urls = [picture for picture in pictures if is_url(picture)]
    outcomes: Iterable[tuple[str, NDArray[np.float32] | tuple[str, str]]] = embed_files(
        embedder, files, settings.fetch_max_bytes
    )
    if urls:
        outcomes = chain(outcomes, embed_urls(settings, embedder, urls))
    found: dict[str, bytes] = {}
    for picture, outcome in outcomes:
        advance()
        if not isinstance(outcome, tuple):
            found[picture] = quantize(outcome)
    return found


def expected_answers(
    events: Iterable[Event],
    items: Mapping[str, Item],
    embedded: Mapping[str, bytes],
    bundle: Bundle,
    settings: Settings,
    *,
    naming: Naming,
    dead: Collection[int] = (),
) -> Iterator[Answer]:
    """The answer of each event, when those of a user are folded one after the other.

    The events at the places `dead` became dead letters: they change no bag, and have no recommendation; nor has an event whose
    picture is not in `embedded`.
    """
    options = ScoringOptions(settings.bag_size, settings.top_k, settings.type_weights, settings.half_life)
    recommender = Recommender(bundle, bundle.aggregator(), options)
    numbers = {category: number for number, category in enumerate(bundle.categories)}
    bags: dict[str, Bag] = {}
    remaining = iter(events)
    while some := list(islice(remaining, BATCH)):
        places: list[int] = []
        caused: list[tuple[EmbeddedInteraction, Bag]] = []
        for event in some:
            picture = items[event.item].picture
            if event.place in dead or (event.type in PICTURED and picture not in embedded):
                yield Answer(event.place, reason="dead letter" if event.place in dead else "no picture")
                continue
            embedding = embedded[picture] if event.type in PICTURED else b""
            interaction = EmbeddedInteraction(
                **_fields(naming, event), embedder=bundle.embedder_version if embedding else "", embedding=embedding
            )
            before = bags.get(interaction.user_id, Bag())
            bag = fold(before, interaction, max_slots=settings.max_slots, embedder=bundle.embedder_version)
            bags[interaction.user_id] = bag
            places.append(event.place)
            caused.append((interaction, bag))
        for place, message in zip(places, recommender.recommend(caused, now=EPOCH), strict=True):
            yield Answer(place, reason="erased") if message is None else answer(place, message, numbers)


def _fields(naming: Naming, event: Event) -> dict[str, Any]:
    interaction = naming.interaction(event, "")
    return {name: getattr(interaction, name) for name in interaction.__struct_fields__}


@dataclass
class Comparison:
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


def compare(online: Answers, offline: Answers) -> Comparison:
    """Answer by answer."""
    found = Comparison(
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
