"""The oracle: what the system must end with, computed from the input topic alone, without Kafka, Faust or RocksDB.

Reads the values of `user-interactions`, parses them, embeds their pictures straight from the files, folds, and scores each
user's final bag alone. Whatever died, moved or was repeated in between, the system has to agree.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import HEADER_BYTES, dequantize, quantize
from model.scoring import ScoringBag, score_bags
from streams.bundles import Bundles
from streams.messages import EmbeddedInteraction, Interaction
from streams.profile.bag import Bag, Embedder, fold, items, newest_first
from streams.profile.scoring import NOTHING, ScoringOptions, log_weight

OPTIONS = ScoringOptions(
    bag_size=64, top_k=10, type_weights={"purchase": 1.0, "cart": 0.6, "view": 0.3}, half_life=None
)
MAX_SLOTS = 128
BATCH = 32


@dataclass
class Expected:
    """The expected final state of one user."""

    bag: Bag
    items: list[str]
    scores: NDArray[np.float32]  # [D], from the embeddings as they are stored: rounded to bytes
    unrounded_scores: NDArray[np.float32]  # [D], from the embeddings as the network gave them


class Oracle:
    """Embeds each picture once; `embeddings` holds the floats before any rounding."""

    def __init__(
        self,
        bundle: Bundle,
        read: Callable[[str], bytes],
        *,
        options: ScoringOptions = OPTIONS,
        max_slots: int = MAX_SLOTS,
        next_bundle: Bundle | None = None,
    ) -> None:
        """Use `read` to get the bytes of the picture at a URL; the other arguments are those of the system."""
        self.bundle = bundle
        self.bundles = Bundles(bundle, next_bundle)
        self._read = read
        self._options = options
        self._max_slots = max_slots
        self._aggregator = bundle.aggregator()
        self._embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
        self.embeddings: dict[str, NDArray[np.float32]] = {}
        self.next_embeddings: dict[str, NDArray[np.float32]] = {}

    def embed(self, urls: Iterable[str]) -> None:
        wanted = [url for url in dict.fromkeys(urls) if url]
        for bundle, made in zip(self.bundles.all, (self.embeddings, self.next_embeddings), strict=False):
            embedder = bundle.embedder(threads=2)
            missing = [url for url in wanted if url not in made]
            for start in range(0, len(missing), BATCH):
                some = missing[start : start + BATCH]
                pixels = np.stack([decode_picture(self._read(url), bundle.image_size) for url in some])
                made.update(zip(some, embedder.embed(pixels), strict=True))

    def embedded(self, event: Interaction) -> EmbeddedInteraction:
        """The embedded interaction that the embed worker should publish."""
        pictured = event.type in {"view", "cart", "purchase"}
        following = self.bundles.next if pictured else None
        return EmbeddedInteraction(
            event_id=event.event_id,
            user_id=event.user_id,
            item_id=event.item_id,
            type=event.type,
            timestamp=event.timestamp,
            image_url=event.image_url,
            embedder_version=self.bundle.embedder_version if pictured else "",
            embedding=quantize(self.embeddings[event.image_url]) if pictured else b"",
            next_embedder_version=following.embedder_version if following else "",
            next_embedding=quantize(self.next_embeddings[event.image_url]) if following else b"",
        )

    def bags(self, events: list[Interaction]) -> dict[str, Bag]:
        """The bag of each user, from the pure fold."""
        self.embed(event.image_url for event in events)
        bags: dict[str, Bag] = {}
        kept = self.bundles.row_bytes
        for event in events:
            bag = bags.get(event.user_id, Bag())
            bags[event.user_id] = fold(bag, self.embedded(event), max_slots=self._max_slots, kept=kept)
        return bags

    def expected(self, events: list[Interaction]) -> dict[str, Expected]:
        """The expected final state of each user, computed from the picture files, one bag at a time."""
        result: dict[str, Expected] = {}
        for user, bag in self.bags(events).items():
            found = items(newest_first(bag), embedder=self._embedder, bag_size=self._options.bag_size)
            version = self.bundle.embedder_version
            urls = [picture.image_url for item in found if (picture := bag.slots[item.item_id].picture(version))]
            unrounded = [self.embeddings[url] for url in urls]
            rounded = [dequantize([quantize(one)], len(one))[0] for one in unrounded]
            prior = log_weight(found, self._options)
            result[user] = Expected(
                bag, [item.item_id for item in found], self._scores(rounded, prior), self._scores(unrounded, prior)
            )
        return result

    def scores_at(self, bag: Bag, moment: int, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores [D] of a bag by a bundle that uses the trend. An empty bag gets what the trend says, without any item.

        Args:
            bag: of a user.
            moment: at which the items have their ages, milliseconds since the epoch.
            windows: the trend at that moment, float32 [3, D].
        """
        found = items(newest_first(bag), embedder=self._embedder, bag_size=self._options.bag_size)
        size = self.bundle.embedding_size
        rows = [dequantize([item.embedding], size)[0] for item in found] or [np.zeros(size, np.float32)]
        weights = log_weight(found, self._options) if found else np.full(1, NOTHING, np.float32)
        ages = [max(0, moment - item.timestamp) / 86_400_000 for item in found] or [0.0]
        asked = ScoringBag(np.stack(rows), weights, np.array(ages, np.float32), windows)
        [scored] = score_bags(self._aggregator, [asked])
        return scored.scores

    def _scores(self, embeddings: list[NDArray[np.float32]], prior: NDArray[np.float32]) -> NDArray[np.float32]:
        if not embeddings:
            return self.bundle.prior
        [scored] = score_bags(self._aggregator, [ScoringBag(np.stack(embeddings), prior)])
        return scored.scores


def trend_of(
    bags: Iterable[Bag], bundle: Bundle, weights: Mapping[Any, float] = OPTIONS.type_weights
) -> dict[int, list[int]]:
    """What bags add to the trend: by day, the counts of each category. Item by item, from the definition."""
    labels = bundle.item_labels()
    assert labels is not None, f"{bundle} does not use the trend"
    embedder = Embedder(bundle.embedder_version, HEADER_BYTES + bundle.embedding_size)
    rows: dict[int, list[int]] = {}
    for bag in bags:
        for item in items(newest_first(bag), embedder=embedder, bag_size=len(bag.slots)):
            weight = max(round(100 * weights[kind]) for kind in item.types)
            [shares] = labels.of([item.embedding]).tolist()
            row = rows.setdefault(item.timestamp // 86_400_000, [0] * len(shares))
            rows[item.timestamp // 86_400_000] = [
                count + weight * share for count, share in zip(row, shares, strict=True)
            ]
    return {day: row for day, row in rows.items() if any(row)}
