"""The profile worker scores by another bundle of the same embedder from the next batch on; each batch by one."""

import asyncio
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from model.bundle import AGGREGATOR, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import content_checksum
from model.exceptions import BundleError
from streams.bundles import Bundles
from streams.exceptions import EventError
from streams.messages import EmbeddedInteraction, Recommendation
from streams.profile.batch import Outcome
from streams.profile.worker import ProfileWorker, _Batch
from streams.settings import Settings
from tests.model.bundle.networks import network, write_colours


def version_of(folder: Path, version: str, aggregator: bytes | None = None) -> Bundle:
    """Write another version of the bundle in `folder` beside it."""
    other = folder.parent / version
    shutil.copytree(folder, other)
    content = json.loads((other / MANIFEST).read_text()) | {"version": version}
    if aggregator is not None:
        (other / AGGREGATOR).write_bytes(aggregator)
        content["files"][AGGREGATOR] = file_sha256(other / AGGREGATOR)
    (other / MANIFEST).write_text(json.dumps(content | {"checksum": content_checksum(content)}))
    return Bundle.load(other)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("bundles") / "colours").path


@pytest.fixture
def bundle(colours: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(colours, tmp_path / "bundles" / "colours")
    return version_of(tmp_path / "bundles" / "colours", "1")


def working(bundles: Bundles, folder: Path) -> ProfileWorker:
    return ProfileWorker(Settings.model_construct(), bundles, folder / "data", partitions=1)


def models(worker: ProfileWorker) -> tuple[str, str]:
    """The versions that the recommendations of a batch name: of the served bundle, and of the next one."""
    return models_of(worker._outcome(a_batch(worker)))


def models_of(outcome: Outcome) -> tuple[str, str]:
    [served], following = outcome.recommendations, outcome.next_recommendations
    return version_in(served[1]), version_in(following[0][1]) if following else ""


def version_in(value: bytes | None) -> str:
    return json.loads(value or b"")["model"]["version"]


def a_batch(worker: ProfileWorker) -> _Batch:
    worker.table.data.scan = lambda *_: []  # pyright: ignore
    event = EmbeddedInteraction(event_id="e", user_id="ada", item_id="i", type="view", timestamp=1)
    batch = _Batch([])
    profile = batch.profiles.setdefault(0, {}).setdefault("ada", worker._load(0, "ada"))
    batch.events.append((event, profile))
    return batch


async def test_recommendations_name_the_bundle_that_scored_them(bundle: Bundle, tmp_path: Path) -> None:
    worker = working(Bundles(bundle), tmp_path)
    assert models(worker) == ("1", "")
    await worker.swap(Bundles(version_of(bundle.path, "2")))
    assert models(worker) == ("2", "")


async def test_each_of_two_bundles_is_swapped_although_the_folder_of_the_other_is_gone(
    bundle: Bundle, tmp_path: Path
) -> None:
    following = version_of(bundle.path, "next-1")
    worker = working(Bundles(bundle, following), tmp_path)
    newer = version_of(bundle.path, "next-2")
    shutil.rmtree(bundle.path)
    await worker.swap(Bundles(bundle, newer))
    assert models(worker) == ("1", "next-2")
    shutil.rmtree(newer.path)
    await worker.swap(Bundles(version_of(following.path, "2"), newer))
    assert models(worker) == ("2", "next-2")


async def test_a_batch_that_is_being_scored_is_scored_by_one_bundle_to_its_end(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = working(Bundles(bundle), tmp_path)
    scoring, swapped = threading.Event(), threading.Event()
    recommend = worker._recommender.recommend

    def slow(caused: Any, orders: Any, **rest: Any) -> list[Recommendation | None]:
        first = recommend(caused[:1], orders=orders[:1], **rest)
        scoring.set()
        assert swapped.wait(60)
        return first + recommend(caused[1:], orders=orders[1:], **rest)

    monkeypatch.setattr(worker._recommender, "recommend", slow)
    batch = a_batch(worker)
    batch.events.append(batch.events[0])
    running = asyncio.create_task(asyncio.to_thread(worker._outcome, batch))
    assert await asyncio.to_thread(scoring.wait, 30)
    await worker.swap(Bundles(version_of(bundle.path, "2")))
    swapped.set()
    outcome = await running
    assert [version_in(value) for _, value, _ in outcome.recommendations] == ["1", "1"]
    assert models(worker) == ("2", "")


async def test_a_bundle_whose_aggregator_has_gone_leaves_both_as_they_are(bundle: Bundle, tmp_path: Path) -> None:
    worker = working(Bundles(bundle), tmp_path)
    gone = version_of(bundle.path, "2")
    (gone.path / AGGREGATOR).unlink()
    with pytest.raises(BundleError):
        await worker.swap(Bundles(gone))
    assert models(worker) == ("1", "")


async def test_a_bundle_whose_scores_cannot_be_published_is_not_used(bundle: Bundle, tmp_path: Path) -> None:
    worker = working(Bundles(bundle), tmp_path)
    bags = ["batch", "items"]
    absurd = network(
        [
            helper.make_node("ReduceMax", ["embeddings", "axes"], ["largest"], keepdims=0),
            helper.make_node("Unsqueeze", ["largest", "last"], ["column"]),
            helper.make_node("Exp", ["column"], ["scores"]),
            helper.make_node("Softmax", ["log_prior"], ["attention"]),
        ],
        {"embeddings": [*bags, 3], "log_prior": bags},
        {"scores": ["batch", 1], "attention": bags},
        axes=np.array([1, 2]),
        last=np.array([1]),
    )
    with pytest.raises(EventError, match="not from 0 to 1"):
        await worker.swap(Bundles(version_of(bundle.path, "2", absurd)))
    assert models(worker) == ("1", "")
