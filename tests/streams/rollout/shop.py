"""A shop between two bundles, without pictures: their features are drawn at random, and put on the topics directly."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from model.bundle import Bundle
from model.quantization import quantize_all
from streams.features.records import Features, encode_features, features_key
from streams.kafka.partitioning import partition_of
from streams.messages import EmbeddedInteraction, encode_embedded
from tests.bundles import write_sibling


def write_next(folder: Path) -> Bundle:
    """A bundle on the backbone of the shipped one, whose item network makes other codes."""
    return Bundle.load(write_sibling(folder, "next"))


class Shop:
    """Pictures with their features, and the codes that both bundles make of them."""

    def __init__(self, served: Bundle, following: Bundle, pictures: int, seed: int = 0) -> None:
        self.served, self.following = served, following
        values = np.random.default_rng(seed).gamma(1.0, 1.0, (pictures, 1024)).astype(np.float32)
        self.features = quantize_all(values)
        self.urls = [f"http://127.0.0.1:9/{number}.jpg" for number in range(pictures)]  # nobody answers there
        self.codes = quantize_all(served.split_embedder().of_features(self.features))
        self.next_codes = quantize_all(following.split_embedder().of_features(self.features))

    def event(
        self, user: str, picture: int, at: int, *, both: bool = False, kind: str = "purchase"
    ) -> EmbeddedInteraction:
        """An embedded interaction with a picture. both: whether it has the code of the next bundle as well."""
        pictured = kind != "return"
        return EmbeddedInteraction(
            event_id=f"{kind} {at}",
            user_id=user,
            item_id=f"item {picture}",
            type=kind,  # pyright: ignore[reportArgumentType]
            timestamp=at,
            image_url=self.urls[picture] if pictured else "",
            embedder_version=self.served.embedder_version if pictured else "",
            embedding=self.codes[picture] if pictured else b"",
            next_embedder_version=self.following.embedder_version if both and pictured else "",
            next_embedding=self.next_codes[picture] if both and pictured else b"",
        )

    def history(self, users: int, each: int, *, both: bool = False) -> list[EmbeddedInteraction]:
        """Events of users, who have some pictures in common. Some items are seen twice, some come back."""
        chance = np.random.default_rng(1)
        kinds = ("purchase", "view", "cart", "view", "return")
        return [
            self.event(
                f"user {user:04}",
                int(chance.integers(len(self.urls))),
                1_700_000_000_000 + number * 1000 + user,
                both=both,
                kind=kinds[number % len(kinds)],
            )
            for number in range(each)
            for user in range(users)
        ]

    async def share(self, broker: str, numbers: Iterable[int], topic: str = "picture-features") -> None:
        """Put the features of pictures on their topic."""
        version = self.served.backbone_version
        async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5) as producer:
            sent = [
                await producer.send(
                    topic,
                    encode_features(Features(1_700_000_000_000, self.features[number])),
                    key=features_key(version, self.urls[number]),
                )
                for number in numbers
            ]
            for one in sent:
                await one


async def send_embedded(broker: str, events: Sequence[EmbeddedInteraction], partitions: int = 4) -> None:
    """Produce embedded interactions to the partitions of their users, as an embed worker does."""
    async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5) as producer:
        sent: list[Any] = []
        for event in events:
            key = event.user_id.encode()
            partition = partition_of(key, partitions)
            sent.append(
                await producer.send("embedded-interactions", encode_embedded(event), key=key, partition=partition)
            )
        for one in sent:
            await one
