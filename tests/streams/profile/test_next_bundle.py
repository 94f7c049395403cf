"""A bundle is prepared while another one is served: bags keep the embeddings of both, and both are scored, each by itself."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from model.aggregator import Scored
from model.bundle import Bundle
from model.quantization import quantize
from streams.bundles import Bundles
from streams.exceptions import MessageError
from streams.messages import EmbeddedInteraction, encode_embedded
from streams.profile.batch import Outcome
from streams.profile.rows import decode_bag
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from tests.model.bundle.networks import write_colours
from tests.records import record

TOPIC = "embedded-interactions"


@dataclass
class Shop:
    """A worker without broker and disk, with both bundles, and what its batches came to."""

    worker: ProfileWorker
    bundles: Bundles
    outcomes: list[Outcome]
    letters: list[Any]

    def view(self, item: str = "hat", *, served: bool = True, following: bool = True) -> EmbeddedInteraction:
        """A view with the embeddings of one or both bundles."""
        served_code, next_code = (
            quantize(np.linspace(0, 1, bundle.embedding_size, dtype=np.float32)) for bundle in self.bundles.all
        )
        assert self.bundles.next
        return EmbeddedInteraction(
            event_id=f"of-{item}", user_id="ada", item_id=item, type="view", timestamp=1, image_url="https://a.example/",
            embedder_version=self.bundles.served.embedder_version if served else "",
            embedding=served_code if served else b"",
            next_embedder_version=self.bundles.next.embedder_version if following else "",
            next_embedding=next_code if following else b"",
        )  # fmt: skip

    def prepared(self, item: str = "hat") -> EmbeddedInteraction:
        """What a rollout sends for the view of this item."""
        view = self.view(item)
        return replace(
            view, prepared=True, embedder_version=view.next_embedder_version, embedding=view.next_embedding,
            next_embedder_version="", next_embedding=b"",
        )  # fmt: skip

    async def process(self, *events: EmbeddedInteraction) -> Outcome:
        """Process a batch."""
        tracker = self.worker.app.in_flight
        tracker.begin({TopicPartition(TOPIC, 0): 0})
        tracker.put(
            TopicPartition(TOPIC, 0),
            [record(TOPIC, offset=offset, value=encode_embedded(one)) for offset, one in enumerate(events)],
        )
        async with asyncio.TaskGroup() as deliveries:
            await self.worker._process(await tracker.take(len(events)), deliveries)
        return self.outcomes[-1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    bundles = Bundles(Bundle.load(), write_colours(tmp_path / "colours"))
    worker = ProfileWorker(Settings.model_construct(), bundles, tmp_path / "profile", partitions=1)
    shop = Shop(worker, bundles, [], [])

    async def deliver(outcome: Outcome, batch: Any) -> None:
        shop.outcomes.append(outcome)
        shop.letters += batch.letters

    def scan(partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        del partition, prefix
        return []

    monkeypatch.setattr(worker.table.data, "scan", scan)
    monkeypatch.setattr(worker, "_deliver", deliver)
    return shop


def contents(records: Sequence[Any]) -> list[Any]:
    return [json.loads(value) if value else None for _, value, _ in records]


async def test_an_event_with_both_embeddings_is_scored_by_both_bundles(shop: Shop) -> None:
    outcome = await shop.process(shop.view())

    [served], [following] = contents(outcome.recommendations), contents(outcome.next_recommendations)
    assert served["model"]["name"] == "default"
    assert following["model"]["name"] == "colours"
    assert {one["category"] for one in following["categories"]} == {"colour"}
    assert served["event_id"] == following["event_id"] == "of-hat"
    assert served["bag_size"] == following["bag_size"] == 1


async def test_each_bundle_scores_only_what_its_own_embedder_made(shop: Shop) -> None:
    outcome = await shop.process(
        shop.view("both"), shop.view("served", following=False), shop.view("next", served=False)
    )

    for records, items in (
        (outcome.recommendations, {"both", "served"}),
        (outcome.next_recommendations, {"both", "next"}),
    ):
        assert {one["item_id"] for one in contents(records)[-1]["attention"]} == items


async def test_a_prepared_event_completes_the_bag_and_nothing_is_recommended(shop: Shop) -> None:
    outcome = await shop.process(shop.view(following=False), shop.prepared())

    assert len(outcome.recommendations) == len(outcome.next_recommendations) == 1
    bag = decode_bag((key, value) for key, value in outcome.writes[0].rows.items() if value)
    assert {picture.embedder_version for picture in bag.slots["hat"].pictures} == set(shop.bundles.row_bytes)
    assert len({picture.moment for picture in bag.slots["hat"].pictures}) == 1


async def test_an_erased_user_is_null_on_both_topics_and_stays_erased_whatever_is_prepared(shop: Shop) -> None:
    erase = EmbeddedInteraction(event_id="e", user_id="ada", item_id="", type="erase", timestamp=5)
    outcome = await shop.process(shop.view(), erase, shop.prepared())

    assert contents(outcome.recommendations)[1] is contents(outcome.next_recommendations)[1] is None
    assert decode_bag((key, value) for key, value in outcome.writes[0].rows.items() if value).slots == {}


@pytest.mark.parametrize("length", [9, 12, 2000])
async def test_a_second_embedding_of_a_wrong_length_is_a_dead_letter(shop: Shop, length: int) -> None:
    with pytest.raises(MessageError, match=f"embedding has {length} bytes; embedder .* makes 11"):
        shop.worker._parse(encode_embedded(replace(shop.view(), next_embedding=bytes(length))))


@pytest.mark.parametrize("what", [1.5, np.nan, "raises"])
async def test_a_next_bundle_that_cannot_score_costs_no_event_and_is_logged_once(
    shop: Shop, what: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recommender = shop.worker._next_recommender
    assert recommender

    def broken(embeddings: Any, log_weight: Any) -> Scored:
        if what == "raises":
            raise RuntimeError("no such node")
        return Scored(np.full((len(embeddings), 1), what, np.float32), np.ones(log_weight.shape, np.float32))

    monkeypatch.setattr(recommender._aggregator, "score", broken)
    for _ in range(3):
        outcome = await shop.process(shop.view())
        assert len(outcome.recommendations) == 1
        assert outcome.next_recommendations == shop.letters == []
    erase = EmbeddedInteraction(event_id="e", user_id="ada", item_id="", type="erase", timestamp=5)
    outcome = await shop.process(shop.view(), erase)
    assert contents(outcome.next_recommendations) == [None], "an erasure reaches both topics all the same"
    [line] = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert line.startswith("NEXT_BUNDLE cannot score")
