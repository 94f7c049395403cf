"""The same job on Quix Streams, as in its documentation: a StreamingDataFrame with a function that embeds, a stateful function that
keeps the bag in the state store under the message key, and an output topic.

It has one hop: nothing is repartitioned, and the documentation does not split a pipeline with one key. Processing is at least once,
as in tastestream. The state store takes bytes, which avoids JSON, and writes a key to the changelog once per checkpoint, however often
the key has changed.
"""

import time
from datetime import UTC, datetime

import httpx
from quixstreams import Application, State

from model.bundle import Bundle
from streams.messages import PICTURED, EmbeddedInteraction, encode_recommendation, parse_interaction, with_embedding
from streams.profile.bag import fold
from streams.settings import Settings
from streams.trend.trend import Trend
from tests.benchmarks.throughput.peers.parts import (
    Cache,
    decode_bag,
    encode_bag,
    new_recommender,
    started,
)

BAG = "bag"


def application(settings: Settings, bundle: Bundle) -> Application:
    app = Application(
        broker_address=settings.bootstrap_servers[0],
        consumer_group="quix",
        auto_offset_reset="earliest",
        commit_interval=settings.commit_interval,
        processing_guarantee="at-least-once",
        state_dir=settings.data_dir / "quix",
        loglevel="WARNING",
    )
    source = app.topic(settings.interactions_topic, key_deserializer="bytes", value_deserializer="bytes")
    output = app.topic(settings.recommendations_topic, key_serializer="bytes", value_serializer="bytes")
    cache, client = Cache(settings, bundle), httpx.Client()
    recommender, trend = new_recommender(settings, bundle), Trend(None, {}, len(bundle.categories))

    def embed(value: bytes) -> EmbeddedInteraction:
        interaction = parse_interaction(value, now=time.time(), max_future=settings.max_future)
        embedding = b""
        if interaction.type in PICTURED:
            found = cache.get(interaction.image_url)
            if found is None:
                picture = client.get(interaction.image_url).raise_for_status().content
                found = cache.make(interaction.image_url, picture)
            embedding = found
        return with_embedding(interaction, bundle.embedder_version, embedding)

    def recommend(interaction: EmbeddedInteraction, state: State[str, bytes]) -> bytes | None:
        before = decode_bag(state.get_bytes(BAG))
        after = fold(before, interaction, max_slots=settings.max_slots, kept={bundle.embedder_version})
        state.set_bytes(BAG, encode_bag(after))
        [message] = recommender.recommend([(interaction, after)], now=datetime.now(UTC), trend=trend)
        return None if message is None else encode_recommendation(message)

    app.dataframe(source).apply(embed).apply(recommend, stateful=True).to_topic(output)
    return app


def main() -> None:
    _, settings = started()
    application(settings, Bundle.load(settings.bundle)).run()


if __name__ == "__main__":
    main()
