"""A guard against changes that make scoring by the trend slower: its processor time relative to the same work without the trend."""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import thread_time

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model.aggregator import AGES, TREND, TREND_DAYS, Aggregator
from model.bundle import AGGREGATOR, Bundle
from model.bundle.manifest import Field
from model.quantization import quantize
from model.sessions import open_session
from streams.messages import EmbeddedInteraction, encode_recommendation
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender, ScoringOptions
from streams.trend.trend import DAY, WHOLE_ITEM, Trend

pytestmark = pytest.mark.alone

ALLOWED = 1.3  # of the processor time of an event that is scored without the trend
FIELDS = 7  # as many as H&M has
USERS, ITEMS = 32, 20
ROUNDS = 300  # short ones, in turns: another load on the machine meets both alike
NOW = datetime(2014, 6, 1, tzinfo=UTC)
TODAY = 16_000  # since the epoch
OPTIONS = ScoringOptions(
    bag_size=64, top_k=10, type_weights={"purchase": 1.0, "cart": 0.6, "view": 0.3}, half_life=None
)

Caused = Sequence[tuple[EmbeddedInteraction, Bag]]


@pytest.fixture(scope="module")
def plain() -> Recommender:
    bundle = Bundle.load()
    return Recommender(bundle, bundle.aggregator(), OPTIONS)


@pytest.fixture(scope="module")
def trending(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """The shipped bundle with fields, and with an aggregator that takes the ages and the trend and does not look at them."""
    shipped = Bundle.load()
    network, categories = onnx.load(shipped.path / AGGREGATOR), len(shipped.categories)
    for name, shape in ((AGES, ["batch", "items"]), (TREND, ["batch", len(TREND_DAYS), categories])):
        network.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    path = tmp_path_factory.mktemp("networks") / AGGREGATOR
    onnx.save(network, path)
    parts = np.array_split(np.arange(categories), FIELDS)
    fields = [Field(f"field {number}", part.tolist()) for number, part in enumerate(parts)]
    bundle = Bundle(shipped.path, msgspec.structs.replace(shipped.manifest, fields=fields))
    return Recommender(bundle, Aggregator(open_session(path, 1), bundle.embedding_size, categories), OPTIONS)


@pytest.fixture(scope="module")
def caused() -> list[tuple[EmbeddedInteraction, Bag]]:
    """Events of two days, with bags of several items."""
    bundle, rng = Bundle.load(), np.random.default_rng(3)
    found: list[tuple[EmbeddedInteraction, Bag]] = []
    for user in range(USERS):
        bag = Bag()
        for number in range(ITEMS):
            event = EmbeddedInteraction(
                event_id=f"e{user}-{number}", user_id=f"user-{user}", item_id=f"item-{number}", type="purchase",
                timestamp=(TODAY + user % 2) * DAY - (ITEMS - number) * DAY // 3, image_url="https://shop.example/1.jpg",
                embedder_version=bundle.embedder_version, embedding=quantize(rng.random(bundle.embedding_size, np.float32)),
            )  # fmt: skip
            bag = fold(bag, event, max_slots=128, kept={bundle.embedder_version})
            found += [(event, bag)] if number == ITEMS - 1 else []
    return found


def fresh_trend() -> Trend:
    rng, categories = np.random.default_rng(4), len(Bundle.load().categories)
    rows = {TODAY - day: rng.integers(0, 90 * WHOLE_ITEM, categories) for day in range(56)}
    return Trend(1, rows, categories)


@pytest.mark.parametrize(("batch", "calls"), [(1, 5), (USERS, 1)])
def test_the_processor_time_of_an_event_with_the_trend_is_at_most_a_third_more(
    plain: Recommender, trending: Recommender, caused: Caused, batch: int, calls: int
) -> None:
    trend = fresh_trend()
    used: dict[str, list[float]] = {"plain": [], "trending": []}
    for number in range(ROUNDS):
        some = [caused[(number + place) % len(caused)] for place in range(batch)]
        for name, recommender in (("plain", plain), ("trending", trending)):
            begun = thread_time()
            for _ in range(calls):
                for message in recommender.recommend(some, now=NOW, trend=trend):
                    assert message is not None
                    encode_recommendation(message)
            used[name].append((thread_time() - begun) / calls / batch * 1000)
    without, with_trend = (min(times) for times in used.values())  # another load on the machine only adds to a round
    print(f"{with_trend:.3f} ms and {without:.3f} ms for an event in batches of {batch}")  # noqa: T201
    assert with_trend < ALLOWED * without, f"{with_trend:.3f} ms for an event, and {without:.3f} ms without the trend"
