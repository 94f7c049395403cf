"""The verdict on a fault scenario computes scores with the trend that a recommendation names. No Kafka."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE, read_products
from streams.messages import Interaction, InteractionType, encode_recommendation
from streams.profile.scoring import Recommender
from streams.trend.snapshots import encode_snapshot, partition_key, snapshot_of
from streams.trend.trend import DAY, Trend
from tests.bundles import write_trending
from tests.faults.verdict import wrong_recommendation
from tests.kafka.system import Record
from tests.oracle import OPTIONS, Oracle

NOW = 1_600_000_000_000 // DAY * DAY
COUNTED = NOW // DAY - 3  # day of the counts of the trend


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    folder = write_trending(tmp_path_factory.mktemp("bundle") / "trending")
    return Oracle(Bundle.load(folder), lambda url: (CATALOGUE / url.rsplit("/", 1)[1]).read_bytes())


def taken(*, returned: bool = False) -> list[Interaction]:
    """Ada took two things, a day apart. Then she returned them, or not."""

    def event(name: str, number: int, kind: InteractionType, day: int, url: str) -> Interaction:
        return Interaction(
            event_id=name, user_id="ada", item_id=f"item-{number}", type=kind, timestamp=NOW + day * DAY, image_url=url
        )

    files = [one.file for one in list(read_products().values())[:2]]
    bought = [event(f"e{n}", n, "purchase", n, f"https://shop.example/{file}") for n, file in enumerate(files)]
    back = [event(f"r{n}", n, "return", 2, "") for n in range(2)]
    return [*bought, *(back if returned else [])]


def rows(oracle: Oracle) -> list[NDArray[np.int64]]:
    """The counts of two versions of the trend, which say the opposite."""
    counts = np.arange(len(oracle.bundle.categories), dtype=np.int64) * 10_000
    return [counts, counts[::-1].copy()]


def snapshots(oracle: Oracle) -> list[Record]:
    labels = oracle.bundle.labels_version
    values = [encode_snapshot(snapshot_of(labels, len(counts), {COUNTED: counts})) for counts in rows(oracle)]
    return [Record(0, offset, partition_key(0), value, {}, NOW) for offset, value in enumerate(values)]


def published(oracle: Oracle, events: list[Interaction], version: int | None) -> bytes:
    """What a worker that knows a version of the trend publishes after the last event."""
    [bag] = oracle.bags(events).values()
    counts = {} if version is None else {COUNTED: rows(oracle)[version]}
    trend = Trend(version, counts, len(oracle.bundle.categories))
    recommender = Recommender(oracle.bundle, oracle.bundle.aggregator(), OPTIONS)
    [message] = recommender.recommend([(oracle.embedded(events[-1]), bag)], now=datetime.now(UTC), trend=trend)
    assert message is not None
    return encode_recommendation(message)


def judged(oracle: Oracle, events: list[Interaction], value: bytes) -> str:
    [expected] = oracle.expected(events).values()
    return wrong_recommendation(oracle, expected, "ada", {"ada": value}, snapshots(oracle))


@pytest.mark.parametrize("returned", [False, True])
@pytest.mark.parametrize("version", [0, 1])
def test_a_recommendation_with_the_trend_that_it_names_is_right(oracle: Oracle, version: int, returned: bool) -> None:
    events = taken(returned=returned)
    assert judged(oracle, events, published(oracle, events, version)) == ""


@pytest.mark.parametrize("returned", [False, True])
def test_a_recommendation_with_another_trend_than_it_names_is_wrong(oracle: Oracle, returned: bool) -> None:
    events = taken(returned=returned)
    value = json.loads(published(oracle, events, 0)) | {"trend_version": 1}
    assert "a score is off by" in judged(oracle, events, json.dumps(value).encode())


def test_a_recommendation_whose_ages_or_values_of_a_field_are_of_something_else_is_wrong(oracle: Oracle) -> None:
    events = taken()
    value = json.loads(published(oracle, events, 0))
    later = value | {"timestamp": "2020-10-05T00:00:00Z"}
    assert "a score is off by" in judged(oracle, events, json.dumps(later).encode())
    first, *others = value["fields"]
    exchanged = value | {"fields": [first | {"values": first["values"][::-1]}, *others]}
    assert "a score is off by" in judged(oracle, events, json.dumps(exchanged).encode())


@pytest.mark.parametrize("version", [None, 2])
def test_a_recommendation_names_a_version_that_there_is(oracle: Oracle, version: int | None) -> None:
    events = taken()
    value = json.loads(published(oracle, events, 0)) | {"trend_version": version}
    said = judged(oracle, events, json.dumps(value).encode())
    assert said == f"version {version} of the trend, which ends at 1"
