"""The events of a made-up shop. Pure: the same seed gives the same events.

Users differ in how much they do (log-normal), items in how often they are looked at (Zipf). `filling` gives each user a bag;
`events` are the ones that are measured. All pictures are the demo's photos, each under the URLs of many items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.preprocessing import decode_picture
from model.quantization import quantize
from streams.demo.catalogue import CATALOGUE

PHOTOS = tuple(sorted(path.name for path in CATALOGUE.glob("*.jpg")))
ACTIVITY = 1.0  # standard deviation of the logarithm of what a user does
POPULARITY = 1.0  # Zipf's exponent
TYPES: Mapping[str, float] = {"view": 0.6, "cart": 0.15, "purchase": 0.22, "return": 0.03}
BEGIN = 1_700_000_000_000  # milliseconds since the epoch
STEP = 60_000  # milliseconds between two events

Event = dict[str, object]


@dataclass(frozen=True)
class Shop:
    """Users and items, and where the pictures are."""

    base: str
    """URL of the demo's photos."""
    users: int = 500
    items: int = 2000
    bag: int = 16
    """Items that each user has, and that are scored at most."""
    cached: float = 1.0
    """Of the events, those whose picture has been embedded before."""
    seed: int = 1

    def url(self, item: int) -> str:
        """The picture of an item."""
        return f"{self.base}/{PHOTOS[item % len(PHOTOS)]}?item={item}"

    def filling(self, name: str) -> list[Event]:
        """As many purchases of different items for each user as a bag holds, all users in turn."""
        rng = np.random.default_rng([self.seed, 0])
        chosen = [rng.choice(self.items, self.bag, replace=False, p=self._popularity()) for _ in range(self.users)]
        places = [(user, turn) for turn in range(self.bag) for user in range(self.users)]
        return [
            self._event(f"{name}-filling-{number}", user, int(chosen[user][turn]), "purchase", number)
            for number, (user, turn) in enumerate(places)
        ]

    def events(self, count: int, name: str, *, after: int = 0) -> list[Event]:
        """What comes after `filling`, and after so many events that came then."""
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

    def embeddings(self, bundle: Bundle) -> dict[str, bytes]:
        """The embedding of each item's picture, by URL, as the embed worker keeps it."""
        embedder = bundle.embedder()
        pictures = np.stack([decode_picture((CATALOGUE / name).read_bytes(), bundle.image_size) for name in PHOTOS])
        rows = [quantize(embedding) for embedding in embedder.embed(pictures)]
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
