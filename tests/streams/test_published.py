"""Whatever comes in, and whatever the networks of a bundle make of it: what is published is valid by its own schema."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.aggregator import Scored
from model.bundle import Bundle
from model.quantization import HEADER_BYTES
from streams.bundles import Bundles
from streams.embed.embedding_cache import Codes
from streams.embed.worker import EmbedWorker
from streams.exceptions import EventError
from streams.messages import EmbeddedInteraction, encode_embedded, json_schema
from streams.profile.bag import Moment, Picture, Slot
from streams.profile.rows import encode_slot, slot_key
from streams.profile.worker import ProfileWorker
from streams.schema import recommendation_schema
from streams.settings import Settings
from tests.bundles import write_trending
from tests.records import pending, record

VALID = jsonschema.Draft202012Validator(recommendation_schema())
SHARED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SIZE = Bundle.load().embedding_size
HOSTILE = [np.nan, np.inf, -np.inf, -0.1, -1e-5, 1.00001, 2.0, 1e30, -0.0, 0.0, 1.0]
Outputs = Mapping[str, list[float]]  # values put over those of the network, by output
outputs = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from(HOSTILE), max_size=3) for name in ("scores", "attention")}
)
shapes = st.sampled_from(["right", "short", "long", "flat", "empty", "attention"])
texts = st.text(max_size=5) | st.sampled_from(["shoe", "\u202e", "\n", "\u0000", "x" * 300])
ranges = st.tuples(st.floats(width=32), st.floats(width=32)).map(lambda pair: np.array(pair, "<f4").tobytes())


class Network:
    """Stands in for the aggregator: valid scores, except where a test puts others."""

    def __init__(self, bundle: Bundle) -> None:
        self.embedding_size = bundle.embedding_size
        self.uses_trend = bool(bundle.labels_version)
        self.categories = self.category_count = len(bundle.categories)
        self.outputs: Outputs = {}
        self.shape = "right"

    def score(self, embeddings: NDArray[np.float32], log_weight: NDArray[np.float32], *_: Any) -> Scored:
        bags, items = log_weight.shape
        scores = np.linspace(0, 1, bags * self.categories, dtype=np.float32).reshape(bags, self.categories)
        attention = np.full((bags, items), 1 / items, np.float32)
        for name, array in (("scores", scores), ("attention", attention)):
            values = np.array(self.outputs.get(name, [])[: array.shape[1]], np.float32)
            array[-1, : len(values)] = values
        match self.shape:
            case "short":
                scores = scores[:, :-1]
            case "long":
                scores = np.concatenate([scores, scores], axis=1)
            case "flat":
                scores = scores.ravel()
            case "empty":
                scores = scores[:0]
            case "attention":
                attention = attention[:, :-1]
            case _:
                pass
        return Scored(scores, attention)


@pytest.fixture(scope="module", params=["shipped", "trending"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    if request.param == "shipped":
        return Bundle.load()
    return Bundle.load(write_trending(tmp_path_factory.mktemp("bundles") / "trending"))


@pytest.fixture(scope="module")
def profile(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[ProfileWorker, Network, list[Any]]:
    """A profile worker whose aggregator is a `Network`, and the rows on its disk."""
    worker = ProfileWorker(
        Settings.model_construct(), Bundles(bundle), tmp_path_factory.mktemp("profile"), partitions=1
    )
    network, rows = Network(bundle), list[tuple[bytes, bytes]]()
    worker._recommender._aggregator = network  # pyright: ignore[reportAttributeAccessIssue]

    def scan(partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        del partition
        return [(key, value) for key, value in rows if key.startswith(prefix)]

    worker.table.data.scan = scan
    return worker, network, rows


def published(worker: ProfileWorker, value: bytes) -> list[bytes | None]:
    """What the worker publishes for an event. Nothing if the event becomes a dead letter."""
    batch = worker._decoded([pending(record(value=value))])
    try:
        return [content for _, content, _ in worker._outcome(batch).recommendations]
    except Exception:  # noqa: BLE001 -- the worker makes a dead letter of whatever is raised
        return []


def view(bundle: Bundle, **fields: Any) -> bytes:
    """A view of a shoe by anna, as the embed worker publishes it."""
    event: dict[str, Any] = {
        "event_id": "e", "user_id": "anna", "item_id": "shoe", "type": "view", "timestamp": 1_400_000_000_000,
        "image_url": "https://a.example/", "embedder_version": bundle.embedder_version,
        "embedding": bytes(HEADER_BYTES + SIZE), **fields,
    }  # fmt: skip
    return encode_embedded(EmbeddedInteraction(**event))


def test_an_ordinary_event_is_published(profile: tuple[ProfileWorker, Network, list[Any]], bundle: Bundle) -> None:
    [content] = published(profile[0], view(bundle))
    assert content is not None
    VALID.validate(json.loads(content))


@SHARED
@given(outputs, shapes)
@example({"scores": [-0.1], "attention": []}, "right")
@example({"scores": [], "attention": [2.0]}, "right")
@example({"scores": [1e-9 - 1e-5], "attention": []}, "right")
@example({"scores": [], "attention": []}, "short")
@example({"scores": [], "attention": []}, "long")
def test_no_output_of_a_network_makes_an_invalid_recommendation(
    profile: tuple[ProfileWorker, Network, list[Any]], bundle: Bundle, hostile: Outputs, shape: str
) -> None:
    worker, network, _ = profile
    network.outputs, network.shape = hostile, shape
    found = published(worker, view(bundle))
    network.outputs, network.shape = {}, "right"
    for content in found:
        VALID.validate(json.loads(content or b""))
    values = [*hostile["scores"], *hostile["attention"][:1]]
    good = shape == "right" and all(-0.0 <= value <= 1 for value in values)
    assert bool(found) == good, "exactly what is valid is published"


@SHARED
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "event_id": texts, "user_id": texts, "item_id": texts, "image_url": texts, "embedder_version": texts,
            "type": st.sampled_from(["view", "return", "erase", "purchase", "stare"]),
            "timestamp": st.integers(-1, 2**63 - 1) | st.floats() | st.none(),
            "embedding": st.binary(max_size=12) | ranges.map(lambda header: header + bytes(SIZE)),
        },
    ),
    slots=st.lists(
        st.tuples(
            texts,
            st.integers(-1, 10**16),
            st.booleans(),
            st.binary(max_size=9) | ranges,
            st.sampled_from([0, 1, SIZE, SIZE + 1]),
        ),
        max_size=3,
    ),
)  # fmt: skip
def test_no_event_and_no_stored_row_makes_an_invalid_recommendation(
    profile: tuple[ProfileWorker, Network, list[Any]], bundle: Bundle, fields: dict[str, Any], slots: list[Any]
) -> None:
    worker, _, rows = profile
    rows[:] = []
    for item_id, timestamp, ours, embedding, more in slots:
        moment = Moment(timestamp, "stored", item_id, "purchase")
        version = bundle.embedder_version if ours else "another"
        picture = Picture(moment, version, "https://a.example/", embedding + bytes(more))
        rows.append((slot_key("anna", item_id), encode_slot(Slot(item_id, {"purchase": moment}, (picture,)))))
    found = published(worker, view(bundle, **fields))
    rows.clear()
    for content in found:
        if content is not None:
            VALID.validate(json.loads(content))


# What the embed worker publishes


class Embeddings:
    """Stands in for the cache: the embedding of every picture."""

    def __init__(self, embedding: bytes) -> None:
        self._embedding = embedding

    async def codes(self, url: str, crowded: Callable[[], bool]) -> Codes:
        del url, crowded
        return Codes(self._embedding)


@SHARED
@given(
    event=st.fixed_dictionaries(
        {"user_id": texts | st.integers(), "type": st.sampled_from(["view", "return", "erase", "cart"])},
        optional={
            "event_id": texts | st.integers(), "item_id": texts | st.integers() | st.none(), "image_url": texts,
            "timestamp": st.integers(-1, 2**63 - 1) | st.sampled_from(["2014-05-01T12:00:00Z", "0001-01-01T00:00:00+23:59"]),
        },
    ),
    embedding=st.binary(max_size=12) | ranges.map(lambda header: header + bytes(SIZE)),
)  # fmt: skip
@example(
    {"user_id": "a", "item_id": "b", "type": "view", "timestamp": 1_400_000_000_000, "image_url": "https://a.example/"},
    b"",
)
@example(
    {"user_id": "a", "item_id": "b", "type": "view", "timestamp": 1_400_000_000_000, "image_url": "https://a.example/"},
    np.array([0, np.inf], "<f4").tobytes() + bytes(SIZE),
)
@example(
    {"user_id": "a", "item_id": "b", "type": "view", "timestamp": 1_400_000_000_000, "image_url": "https://a.example/"},
    bytes(HEADER_BYTES + SIZE - 1),
)
def test_what_the_embed_worker_publishes_is_accepted_by_the_profile_worker(
    profile: tuple[ProfileWorker, Network, list[Any]],
    embed: EmbedWorker,
    event: dict[str, Any],
    embedding: bytes,
) -> None:
    embed._embeddings = Embeddings(embedding)  # pyright: ignore[reportAttributeAccessIssue]
    with suppress(EventError):  # a dead letter
        found = encode_embedded(asyncio.run(embed._embedded(pending(record(value=json.dumps(event).encode())))))
        profile_accepts(profile[0], found)


def profile_accepts(worker: ProfileWorker, value: bytes) -> None:
    try:
        interaction = worker._parse(value)
    except EventError as error:
        raise AssertionError(f"published, and refused by the profile worker: {error}") from error
    described = json.loads(msgspec.json.encode(interaction))
    jsonschema.Draft202012Validator(json_schema(EmbeddedInteraction)).validate(described)


@pytest.fixture(scope="module")
def embed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> EmbedWorker:
    return EmbedWorker(
        Settings.model_construct(), Bundles(bundle), Path(tmp_path_factory.mktemp("embed")), partitions=1
    )
