"""Both workers process real purchases of real products on real Kafka."""

import time

import numpy as np
import pytest

from model.bundle import Bundle
from streams.messages import parse_interaction
from tests.data import DATA, needs
from tests.kafka.system import System, picture_server
from tests.oracle import Oracle

pytestmark = needs("hm/purchases.parquet", "hm/images")


def purchases(pictures: str, users: int) -> list[dict[str, object]]:
    """The purchases of the first users, as events; the 150 users have 3,713. Their timestamps are days, so many are equal."""
    polars = pytest.importorskip("polars", reason="polars reads the purchases (extra dev)")
    table = polars.read_parquet(DATA / "hm" / "replay_users.parquet")
    chosen = table["customer_id"].unique().sort()[:users]
    table = table.filter(polars.col("customer_id").is_in(chosen.implode()))
    return [
        {
            "user_id": row["customer_id"],
            "item_id": row["article_id"],
            "type": "purchase",
            "timestamp": f"{row['t_dat']!s:.10}T00:00:00Z",
            "event_id": f"hm-{number}",
            "image_url": f"{pictures}/{row['article_id']}.jpg",
        }
        for number, row in enumerate(table.iter_rows(named=True))
    ]


@pytest.mark.parametrize("users", [pytest.param(150, marks=pytest.mark.slow), 40])
async def test_every_purchase_gets_one_recommendation_and_the_final_state_is_the_oracles(
    system: System, users: int
) -> None:
    system.configure(namespace=f"of-{users}")
    bundle = Bundle.load()
    images = DATA / "hm" / "images"
    with picture_server(images) as pictures:
        events = purchases(pictures, users)
        with system.workers():
            begun = time.monotonic()
            await system.produce(events)
            await system.settled()
            print(f"{len(events)} events in {time.monotonic() - begun:.1f} s")  # noqa: T201

    recommendations = await system.recommendations()
    assert sorted(one["event_id"] for one in recommendations) == sorted(str(event["event_id"]) for event in events)
    assert await system.read(system.named("user-interactions-dlq")) == []

    values = [record.value for record in await system.read(system.named("user-interactions"))]
    parsed = [parse_interaction(value, now=time.time(), max_future=0) for value in values]
    oracle = Oracle(bundle, lambda url: (images / url.rsplit("/", 1)[1]).read_bytes())
    expected = oracle.expected(parsed)

    assert system.stored_bags() == {user: one.bag for user, one in expected.items()}

    last = {one["user_id"]: one for one in recommendations}
    assert last.keys() == expected.keys()
    places = {category: place for place, category in enumerate(bundle.categories)}
    worst = worst_unrounded = 0.0
    for user, one in expected.items():
        published = last[user]
        assert published["bag_size"] == len(one.items)
        assert {item["item_id"] for item in published["attention"]} <= set(one.items)
        scores = np.array([category["score"] for category in published["categories"]])
        top = [places[category["category"]] for category in published["categories"]]
        assert scores == pytest.approx(np.sort(one.scores)[::-1][: len(scores)], abs=1e-3), (
            "the highest scores, best first"
        )
        worst = max(worst, float(np.abs(scores - one.scores[top]).max()))
        worst_unrounded = max(worst_unrounded, float(np.abs(scores - one.unrounded_scores[top]).max()))
    print(f"largest difference of a published score: {worst:.1e} from the direct computation,")  # noqa: T201
    print(f"{worst_unrounded:.1e} from the same without rounding the embeddings to bytes")  # noqa: T201
    assert worst < 1e-3
