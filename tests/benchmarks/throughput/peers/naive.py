"""The obvious implementation: two Faust apps with one agent each, which process one event at a time.

The whole bag of a user is one value of a table. For each event it is read, folded, scored with one call of the aggregator, and
written back. Embeddings are looked up in a dictionary. A missing picture is fetched, decoded and embedded while the partition waits.
"""

import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import faust

from model.bundle import Bundle
from streams.messages import (
    PICTURED,
    encode_embedded,
    encode_recommendation,
    parse_embedded,
    parse_interaction,
    with_embedding,
)
from streams.profile.bag import fold
from streams.settings import Settings
from streams.trend.trend import Trend
from tests.benchmarks.throughput.peers.parts import (
    Cache,
    bytes_table,
    decode_bag,
    encode_bag,
    new_app,
    new_recommender,
    run,
    started,
    topic_of,
)


def embed_app(settings: Settings, bundle: Bundle) -> faust.App:
    app = new_app("naive-embed", settings)
    output = topic_of(app, settings.embedded_topic)
    cache = Cache(settings, bundle)

    @app.agent(topic_of(app, settings.interactions_topic))
    async def embed(stream: Any) -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            async for value in stream:
                interaction = parse_interaction(value, now=time.time(), max_future=settings.max_future)
                embedding = b""
                if interaction.type in PICTURED:
                    found = cache.get(interaction.image_url)
                    if found is None:
                        async with session.get(interaction.image_url) as response:
                            found = cache.make(interaction.image_url, await response.read())
                    embedding = found
                message = with_embedding(interaction, bundle.embedder_version, embedding)
                await output.send(key=message.user_id.encode(), value=encode_embedded(message))

    return app


def profile_app(settings: Settings, bundle: Bundle) -> faust.App:
    app = new_app("naive-profile", settings)
    output = topic_of(app, settings.recommendations_topic)
    bags = bytes_table(app, "bags", settings)
    recommender, trend = new_recommender(settings, bundle), Trend(None, {}, len(bundle.categories))

    @app.agent(topic_of(app, settings.embedded_topic))
    async def recommend(stream: Any) -> None:
        async for value in stream:
            interaction = parse_embedded(value)
            key = interaction.user_id.encode()
            before = decode_bag(bags.get(key))
            after = fold(before, interaction, max_slots=settings.max_slots, kept={bundle.embedder_version})
            bags[key] = encode_bag(after)
            [message] = recommender.recommend([(interaction, after)], now=datetime.now(UTC), trend=trend)
            await output.send(key=key, value=None if message is None else encode_recommendation(message))

    return app


def main() -> None:
    kind, settings = started()
    run({"embed": embed_app, "profile": profile_app}[kind](settings, Bundle.load(settings.bundle)))


if __name__ == "__main__":
    main()
