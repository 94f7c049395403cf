"""The model over HTTP: what the manifest says, and what a sample of bags can be scored by."""

import math

from model.bundle import Bundle
from streams.profile.bag import Bag, fold
from streams.profile.scoring import Recommender
from streams.serve.api.model import tally
from streams.serve.interface import Prepared
from tests.streams.serve.api.conftest import Served
from tests.streams.serve.made import DAY, NOW, OPTIONS, MadeServing, event


async def test_the_manifest_is_told_with_its_figures(served: Served, bundle: Bundle) -> None:
    answer = await (await served.get("/v1/model")).json()
    told = answer["served"]
    assert (told["name"], told["version"], told["embedder_version"]) == (
        bundle.name, bundle.version, bundle.embedder_version,
    )  # fmt: skip
    assert len(told["categories"]) == len(told["prior"]) == len(bundle.categories)
    assert told["figures"] == {
        task: {name: None if math.isnan(value) else value for name, value in found.items()}
        for task, found in bundle.manifest.metrics.items()
    }
    assert set(told["calibration"]) <= set(told["figures"])
    assert told["calibration"]
    assert answer["next"] is None
    assert answer["rollout"] is None


async def test_the_sample_counts_what_is_scored(served: Served) -> None:
    sample = (await (await served.get("/v1/model")).json())["sample"]
    assert (sample["bags"], sample["items"], sample["scored"], sample["cold"]) == (2, 6, 6, 0)


async def test_a_disk_that_fails_is_a_problem(served: Served) -> None:
    served.serving.bags.broken = True
    assert (await served.get("/v1/model")).status == 503


def recommender(bundle: Bundle) -> Recommender:
    return Recommender(bundle, bundle.aggregator(), OPTIONS)


def bag(bundle: Bundle, *events: object) -> Bag:
    made = Bag()
    for one in events:
        made = fold(made, one, max_slots=128, kept={bundle.embedder_version})  # pyright: ignore[reportArgumentType]
    return made


def test_each_item_that_is_not_scored_has_a_reason(bundle: Bundle, serving: MadeServing) -> None:
    del serving
    returned = bag(
        bundle,
        event(bundle, "ada", "shoe", timestamp=NOW - DAY),
        event(bundle, "ada", "shoe", kind="return", timestamp=NOW),
    )
    many = bag(bundle, *(event(bundle, "bob", f"item-{number}", number=number) for number in range(70)))
    found = tally([returned, many, Bag()], recommender(bundle))
    assert (found.bags, found.items, found.scored, found.cold) == (2, 71, 64, 1)
    assert found.not_scored == {"returned": 1, "beyond_bag_size": 6}


async def test_how_far_a_rollout_is_is_told(served: Served) -> None:
    served.serving.prepared = Prepared({"native": 5, "adapted": 1, "missing": 2}, True, 0.99)
    rollout = (await (await served.get("/v1/model")).json())["rollout"]
    assert rollout == {
        "items": 8, "native": 5, "adapted": 1, "stale": 0, "missing": 2,
        "share": 0.75, "needed": 0.99, "counted": True, "partitions": 4,
    }  # fmt: skip
    served.serving.prepared = Prepared({}, False, 0.99)
    rollout = (await (await served.get("/v1/model")).json())["rollout"]
    assert (rollout["items"], rollout["share"], rollout["counted"]) == (0, 1.0, False)
