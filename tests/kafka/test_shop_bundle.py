"""Both workers run a bundle of `tastestream train bundle` on real Kafka, and publish what its networks compute."""

import time
from pathlib import Path

import numpy as np
import pytest

from model.bundle import Bundle
from streams.demo.catalogue import CATALOGUE
from streams.messages import parse_interaction
from tests.kafka.system import System, picture_server
from tests.kafka.test_under_load import events
from tests.oracle import Oracle

ITEMS, USERS, EVENTS = 60, 100, 200


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle trained on random embeddings: other tests measure its quality.

    torch takes seconds to import. Only the test process that runs this test imports it.
    """
    pytest.importorskip("torch", reason="needs the extra `train`")
    pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    from offline_training.bundles.shop import make_shop_bundle  # noqa: PLC0415
    from offline_training.tasks.catalogue import Catalogue  # noqa: PLC0415
    from offline_training.tasks.split import Histories, make_split  # noqa: PLC0415
    from tests.offline_training.silent import step  # noqa: PLC0415

    chance = np.random.default_rng(0)
    base = Bundle.load()
    matrix = np.eye(3, dtype=bool)[chance.integers(0, 3, ITEMS)]
    embeddings = chance.random((ITEMS, base.backbone().feature_size), np.float32)
    catalogue = Catalogue([f"item-{n}" for n in range(ITEMS)], ["hat", "shoe", "tie"], embeddings, matrix, 0)
    rows = [chance.permutation(ITEMS)[:8].astype(np.int32) for _ in range(USERS)]
    split = make_split("next", Histories([f"user-{n}" for n in range(USERS)], rows), catalogue)
    return make_shop_bundle(
        base=base, catalogue=catalogue, split=split, task="next", aggregator=None, name="hats and shoes", version="2.0.0",
        command="", seed=0, out=tmp_path_factory.mktemp("bundle"), step=step,
    )  # fmt: skip


@pytest.mark.slow
async def test_the_workers_run_it(system: System, bundle: Bundle) -> None:
    system.configure(bundle=bundle.path)
    with picture_server(CATALOGUE) as pictures, system.workers():
        await system.produce(events(pictures, EVENTS, "shop"))
        await system.settled()
    recommendations = await system.recommendations()
    assert len(recommendations) == EVENTS
    assert {(one["model"]["name"], one["model"]["version"]) for one in recommendations} == {("hats and shoes", "2.0.0")}
    values = [record.value for record in await system.read("user-interactions")]
    parsed = [parse_interaction(value, now=time.time(), max_future=0) for value in values]
    expected = Oracle(bundle, lambda url: (Path(CATALOGUE) / url.rsplit("/", 1)[1]).read_bytes()).expected(parsed)
    assert system.stored_bags() == {user: one.bag for user, one in expected.items()}
    for user, published in {one["user_id"]: one for one in recommendations}.items():
        scores = {category["category"]: category["score"] for category in published["categories"]}
        direct = dict(zip(bundle.categories, expected[user].scores, strict=True))
        assert scores == pytest.approx(direct, abs=1e-3)
