"""The events of a generated shop. The same seed gives the same events.

The activity of users is log-normal, the popularity of items follows Zipf's law. `filling` fills the bag of each user; `events` are
the events to measure. The pictures are the photos of the demo, each under the URLs of many items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams.demo.catalogue import CATALOGUE

PHOTOS = tuple(sorted(path.name for path in CATALOGUE.glob("*.jpg")))
ACTIVITY = 1.0  # standard deviation of the logarithm of the activity of a user
POPULARITY = 1.0  # exponent of Zipf's law
TYPES: Mapping[str, float] = {"view": 0.6, "cart": 0.15, "purchase": 0.22, "return": 0.03}
BEGIN = 1_700_000_000_000  # milliseconds since the epoch
STEP = 60_000  # milliseconds between two events

Event = dict[str, object]


@cache
def _made(bundle: Bundle) -> tuple[list[bytes], list[bytes]]:
    """The features and the quantized embeddings of the photos."""
    embedder = bundle.split_embedder()
    pictures = np.stack([decode_picture((CATALOGUE / name).read_bytes(), bundle.image_size) for name in PHOTOS])
    features = embedder.backbone.features(pictures)
    return features, [quantize(embedding) for embedding in embedder.of_features(features)]


@dataclass(frozen=True)
class Shop:
    """Users, items and pictures."""

    base: str
    """URL of the photos of the demo."""
    users: int = 500
    items: int = 2000
    bag: int = 16
    """Items in the bag of each user. As many are scored."""
    cached: float = 1.0
    """Share of events whose picture is cached."""
    seed: int = 1

    def url(self, item: int) -> str:
        """The URL of the picture of an item."""
        return f"{self.base}/{PHOTOS[item % len(PHOTOS)]}?item={item}"

    def filling(self, name: str) -> list[Event]:
        """Purchases that fill the bag of each user with different items, one item per user at a time."""
        rng = np.random.default_rng([self.seed, 0])
        chosen = [rng.choice(self.items, self.bag, replace=False, p=self._popularity()) for _ in range(self.users)]
        places = [(user, turn) for turn in range(self.bag) for user in range(self.users)]
        return [
            self._event(f"{name}-filling-{number}", user, int(chosen[user][turn]), "purchase", number)
            for number, (user, turn) in enumerate(places)
        ]

    def events(self, count: int, name: str, *, after: int = 0) -> list[Event]:
        """Events that follow `filling` and `after` earlier events."""
        activity = np.exp(np.random.default_rng([self.seed, 1]).normal(0, ACTIVITY, self.users))
        rng = np.random.default_rng([self.seed, 2, after])
        users = rng.choice(self.users, count, p=activity / activity.sum())
        items = rng.choice(self.items, count, p=self._popularity())
        types = rng.choice(len(TYPES), count, p=list(TYPES.values()))
        new = rng.random(count) >= self.cached
        kinds, begin = list(TYPES), self.users * self.bag + after
        found: list[Event] = []
        for number in range(count):
            event = self._event(
                f"{name}-{number}", int(users[number]), int(items[number]), kinds[types[number]], begin + number
            )
            if new[number]:
                event["image_url"] = f"{event['image_url']}&new={name}-{number}"
            found.append(event)
        return found

    def features(self, bundle: Bundle) -> dict[str, bytes]:
        """The features of the picture of each item, by URL."""
        rows, _ = _made(bundle)
        return {self.url(item): rows[item % len(rows)] for item in range(self.items)}

    def embeddings(self, bundle: Bundle) -> dict[str, bytes]:
        """The quantized embedding of the picture of each item, by URL."""
        _, rows = _made(bundle)
        return {self.url(item): rows[item % len(rows)] for item in range(self.items)}

    def _popularity(self) -> NDArray[np.float64]:
        weights = 1 / np.arange(1, self.items + 1) ** POPULARITY
        return weights / weights.sum()

    @staticmethod
    def user(number: int) -> str:
        return f"user-{number}"

    def _event(self, event_id: str, user: int, item: int, kind: str, number: int) -> Event:
        return {
            "event_id": event_id,
            "user_id": self.user(user),
            "item_id": f"item-{item}",
            "type": kind,
            "timestamp": BEGIN + STEP * number,
            "image_url": self.url(item),
        }
