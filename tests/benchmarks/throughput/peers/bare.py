"""The maximum of a simple Faust application: two hops with the messages of tastestream, and one RocksDB row per event.

Nothing is embedded or scored: the embedding is zeros, and all users get the same recommendation.
"""

import time
from datetime import UTC, datetime
from typing import Any

import faust

from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.messages import (
    PICTURED,
    CategoryScore,
    ItemAttention,
    Model,
    Recommendation,
    as_datetime,
    encode_embedded,
    encode_recommendation,
    parse_embedded,
    parse_interaction,
    with_embedding,
)
from streams.settings import Settings
from tests.benchmarks.throughput.peers.parts import bytes_table, new_app, run, started, topic_of


def first_hop(settings: Settings, bundle: Bundle) -> faust.App:
    app = new_app("bare-embed", settings)
    output = topic_of(app, settings.embedded_topic)
    zeros = bytes(HEADER_BYTES + bundle.embedding_size)

    @app.agent(topic_of(app, settings.interactions_topic))
    async def embed(stream: Any) -> None:
        async for value in stream:
            interaction = parse_interaction(value, now=time.time(), max_future=settings.max_future)
            embedding = zeros if interaction.type in PICTURED else b""
            message = with_embedding(interaction, bundle.embedder_version, embedding)
            await output.send(key=message.user_id.encode(), value=encode_embedded(message))

    return app


def second_hop(settings: Settings, bundle: Bundle) -> faust.App:
    app = new_app("bare-profile", settings)
    output = topic_of(app, settings.recommendations_topic)
    table = bytes_table(app, "rows", settings)
    model = Model(bundle.name, bundle.version)
    categories = [
        CategoryScore(category, 0.123456) for category, _ in zip(bundle.categories, range(settings.top_k), strict=False)
    ]

    @app.agent(topic_of(app, settings.embedded_topic))
    async def recommend(stream: Any) -> None:
        async for value in stream:
            interaction = parse_embedded(value)
            key = interaction.user_id.encode()
            table[key + b"/" + interaction.item_id.encode()] = value
            message = Recommendation(
                user_id=interaction.user_id,
                event_id=interaction.event_id,
                timestamp=as_datetime(interaction.timestamp),
                produced_at=datetime.now(UTC),
                model=model,
                bag_size=settings.bag_size,
                cold_start=False,
                categories=categories,
                attention=[ItemAttention(interaction.item_id, 0.123456)] * settings.top_k,
            )
            await output.send(key=key, value=encode_recommendation(message))

    return app


def main() -> None:
    kind, settings = started()
    run({"embed": first_hop, "profile": second_hop}[kind](settings, Bundle.load(settings.bundle)))


if __name__ == "__main__":
    main()
