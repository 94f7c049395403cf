"""The batches of the profile worker: an event that breaks our own code is not lost, and no other event is lost with it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace
from prometheus_client import REGISTRY

from model.aggregator import Scored
from model.bundle import Bundle as ModelBundle
from model.quantization import quantize
from streams import metrics
from streams.bundles import Bundles
from streams.engine.in_flight import Pending
from streams.exceptions import DeliveryError, MessageError
from streams.kafka.partitioning import partition_of
from streams.kafka.records import Record
from streams.messages import EmbeddedInteraction, Recommendation, encode_embedded
from streams.profile.bag import Bag, fold
from streams.profile.batch import Outcome
from streams.profile.quarantine import usable_rows
from streams.profile.rows import encode_bag, user_prefix
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from tests.records import record, unreadable

POISON = "poison"
TOPIC = "embedded-interactions"


def records(*users: str) -> list[Record]:
    """A view of each user, without a picture, at offsets from 0."""
    return [
        record(TOPIC, offset=offset, key=b"k", value=encode_embedded(view(user))) for offset, user in enumerate(users)
    ]


def view(user: str) -> EmbeddedInteraction:
    return EmbeddedInteraction(event_id=f"of-{user}", user_id=user, item_id="i", type="view", timestamp=1)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ProfileWorker, list[tuple[str, bytes | None]]]:
    """A worker without broker and disk whose scoring fails on one user, and a list of what it sends: topic, and key or reason."""
    worker = ProfileWorker(Settings.model_construct(), Bundles(ModelBundle.load()), tmp_path, partitions=1)
    recommend = worker._recommender.recommend
    sent: list[tuple[str, bytes | None]] = []

    def fail_on_poison(caused: Sequence[tuple[EmbeddedInteraction, Bag]], **others: Any) -> list[Recommendation | None]:
        if any(interaction.user_id == POISON for interaction, _ in caused):
            raise ZeroDivisionError("our defect")
        return recommend(caused, **others)

    async def deliver(outcome: Outcome, batch: Any) -> None:
        letters = batch.letters
        sent.extend(("user-recommendations", key) for key, _, _ in outcome.recommendations)
        sent.extend(("dead letter", dict(letter.headers)["tastestream-reason"]) for letter in letters)
        sent.extend((f"{TOPIC}/{partition}", key) for partition, moved in batch.moved.items() for key, _, _ in moved)
        assert not letters or not outcome.writes, "a dead letter leaves no trace in a bag"

    monkeypatch.setattr(worker._recommender, "recommend", fail_on_poison)

    def scan(partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return []

    monkeypatch.setattr(worker.table.data, "scan", scan)
    monkeypatch.setattr(worker, "_deliver", deliver)
    return worker, sent


async def test_an_event_that_breaks_our_code_becomes_a_dead_letter_and_the_others_succeed(worker: Any) -> None:
    profile_worker, sent = worker
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(TopicPartition(TOPIC, 0), records("ada", POISON, "cleo"))

    async with asyncio.TaskGroup() as deliveries:
        await profile_worker._process(await tracker.take(3), deliveries)

    assert sent == [
        ("user-recommendations", b"ada"),
        ("dead letter", b"internal_error"),
        ("user-recommendations", b"cleo"),
    ]
    assert tracker.committable() == {TopicPartition(TOPIC, 0): 3}, "all three may be committed"


async def test_a_batch_counts_its_seconds_its_cold_starts_and_the_items_that_it_passes_over(worker: Any) -> None:
    profile_worker, _ = worker
    bundle = profile_worker._recommender.bundle
    size = bundle.embedding_size
    ours = {"embedding": quantize(np.full(size, 0.5, np.float32)), "embedder_version": bundle.embedder_version}
    others = {"embedding": quantize(np.full(size, 0.5, np.float32)), "embedder_version": "another"}
    given = [
        replace(view("ada"), **ours),
        replace(view("ada"), item_id="j", event_id="2", **others),  # passed over: it is of another embedder
        replace(view("bob"), **others),  # and here nothing else is left
    ]
    asked = int(time.time() * 1000) - 700
    headers = [("tastestream-sent-at", b"%d" % asked)], [("tastestream-sent-at", b"soon")], []
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(
        TopicPartition(TOPIC, 0),
        [
            record(TOPIC, offset=offset, value=encode_embedded(one), headers=headers[offset])
            for offset, one in enumerate(given)
        ],
    )
    before = numbers()

    async with asyncio.TaskGroup() as deliveries:
        await profile_worker._process(await tracker.take(3), deliveries)

    counted = {name: value - before[name] for name, value in numbers().items()}
    seconds = counted.pop("recommendation_seconds_sum")
    assert counted == {
        "cold_starts_total": 1,
        "unscored_items_total": 2,
        "queue": 3,
        "fold": 1,
        "score": 1,
        "delivery": 1,
        "recommendation_seconds_count": 1,
    }
    assert 0.7 <= seconds < 300


def numbers() -> dict[str, float]:
    """What the metrics of a batch say."""
    plain = ("cold_starts_total", "unscored_items_total", "recommendation_seconds_count", "recommendation_seconds_sum")
    found = {name: REGISTRY.get_sample_value(f"tastestream_{name}") for name in plain}
    for stage in ("queue", "fold", "score", "delivery"):
        labels = {"worker": "profile", "stage": stage}
        found[stage] = REGISTRY.get_sample_value("tastestream_stage_seconds_count", labels)
    return {name: value or 0.0 for name, value in found.items()}


async def test_scores_that_cannot_be_published_cost_only_their_event_and_the_dead_letter_says_so(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_worker, sent = worker
    bundle = profile_worker._recommender.bundle
    score = profile_worker._recommender._aggregator.score

    def of_a_broken_network(embeddings: Any, log_weight: Any) -> Scored:
        scored = score(embeddings, log_weight)
        scored.scores[embeddings[:, 0, 0] > 1] = 1.5
        return scored

    monkeypatch.setattr(profile_worker._recommender._aggregator, "score", of_a_broken_network)
    values = [
        encode_embedded(
            replace(
                view(user),
                embedding=quantize(np.full(bundle.embedding_size, value, np.float32)),
                embedder_version=bundle.embedder_version,
            )
        )
        for user, value in (("ada", 0.5), ("bob", 2.0), ("cleo", 0.5))
    ]
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(
        TopicPartition(TOPIC, 0), [record(TOPIC, offset=place, value=value) for place, value in enumerate(values)]
    )

    async with asyncio.TaskGroup() as deliveries:
        await profile_worker._process(await tracker.take(3), deliveries)

    assert sent == [
        ("user-recommendations", b"ada"),
        ("dead letter", b"invalid_scores"),
        ("user-recommendations", b"cleo"),
    ]


async def test_a_batch_builds_on_the_one_before_which_is_still_being_delivered(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_worker, _ = worker
    arrived = asyncio.Event()
    delivered: list[list[str]] = []  # the items in ada's bag, at the beginning of each delivery

    async def deliver(outcome: Outcome, letters: Any) -> None:
        delivered.append(list(outcome.writes[0].bags["ada"].slots))
        await arrived.wait()

    monkeypatch.setattr(profile_worker, "_deliver", deliver)
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    for offset, item in enumerate(("first", "second")):
        value = encode_embedded(replace(view("ada"), item_id=item, event_id=item))
        tracker.put(TopicPartition(TOPIC, 0), [record(TOPIC, offset=offset, key=b"k", value=value)])

    async def work() -> None:  # one after the other, as the agent does
        async with asyncio.TaskGroup() as deliveries:
            for _ in range(2):
                await profile_worker._process(await tracker.take(1), deliveries)

    working = asyncio.create_task(work())
    await asyncio.wait({working}, timeout=0.2)
    assert delivered == [["first"]], "nothing of the second batch leaves before the first has arrived"
    assert tracker.committable() == {}
    arrived.set()
    await working
    assert delivered == [["first"], ["first", "second"]]
    assert tracker.committable() == {TopicPartition(TOPIC, 0): 2}


async def test_a_failed_delivery_ends_the_agent_and_nothing_more_is_sent(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile_worker, _ = worker
    deliveries = 0

    async def deliver(outcome: Outcome, letters: Any) -> None:
        nonlocal deliveries
        deliveries += 1
        raise DeliveryError("the broker said no")

    monkeypatch.setattr(profile_worker, "_deliver", deliver)
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(TopicPartition(TOPIC, 0), records("ada", "ada"))

    async def batches() -> AsyncIterator[list[Pending]]:
        while True:
            yield await tracker.take(1)

    with pytest.raises(ExceptionGroup) as failed:
        await profile_worker.agent(batches())
    assert failed.group_contains(DeliveryError)
    assert deliveries == 1
    assert tracker.committable() == {}


async def test_a_stop_during_a_delivery_acknowledges_nothing(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    profile_worker, _ = worker
    delivering = asyncio.Event()

    async def deliver(outcome: Outcome, letters: Any) -> None:
        delivering.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(profile_worker, "_deliver", deliver)
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(TopicPartition(TOPIC, 0), records("ada"))

    async def batches() -> AsyncIterator[list[Pending]]:
        while True:
            yield await tracker.take(1)

    agent = asyncio.create_task(profile_worker.agent(batches()))
    await asyncio.wait_for(delivering.wait(), 60)
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent
    assert tracker.committable() == {}


async def test_an_event_in_a_partition_without_bags_goes_to_the_partition_of_its_user_if_it_is_valid(
    worker: Any,
) -> None:
    """The record may have any key. One that is not valid could be too large to send again, and stop the worker."""
    profile_worker, sent = worker
    above = TopicPartition(TOPIC, 3)
    profile_worker._partitions = 3
    valid = record(TOPIC, 3, 0, key=b"any", value=encode_embedded(view("ada")))
    broken = record(TOPIC, 3, 1, key=b"any", value=bytes(2 * 1024**2))
    tracker = profile_worker.app.in_flight
    tracker.begin({above: 0})
    tracker.put(above, [valid, broken, unreadable(TOPIC, 3, 2, 4)])

    async with asyncio.TaskGroup() as deliveries:
        await profile_worker._process(await tracker.take(3), deliveries)

    assert sent == [
        ("dead letter", b"message_too_large"),
        ("dead letter", b"unreadable_batch"),
        (f"{TOPIC}/{partition_of(b'ada', 3)}", b"ada"),
    ]
    assert tracker.committable() == {above: 5}


@pytest.mark.parametrize("rows", [1, 3])
async def test_rows_that_end_below_those_before_them_are_in_a_changelog_that_was_re_created(
    worker: Any, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """Going on would leave all earlier rows on this disk only."""
    table, changes = worker[0].table, {b"key-%d" % number: b"row" for number in range(rows)}

    async def send_all(topic: str, records: Any, *, partition: int) -> dict[int, int]:
        return {partition: len(records) - 1}

    async def read(*_: object) -> list[Any]:
        return []

    dropped: list[int] = []
    monkeypatch.setattr(table.data, "drop", dropped.append)
    monkeypatch.setattr(table._publisher, "send_all", send_all)
    monkeypatch.setattr(table, "_read", read)
    assert await table._append(0, changes, after=-1) == rows - 1
    with pytest.raises(DeliveryError, match="re-created"):
        await table._append(0, changes, after=500)
    assert dropped == [0]


@pytest.mark.parametrize("version", ["ours", "another"])
@pytest.mark.parametrize(("low", "step"), [(0.0, np.inf), (np.nan, 0.0), (0.0, 3e38), (-3e38, 2e36), (1e30, 0.0)])
def test_an_embedding_whose_range_leads_to_infinity_is_a_dead_letter_whoever_made_it(
    worker: tuple[ProfileWorker, list[Any]], version: str, low: float, step: float
) -> None:
    bundle = worker[0]._recommender.bundle
    embedding = np.array([low, step], "<f4").tobytes() + bytes([255]) * bundle.embedding_size
    made_by = bundle.embedder_version if version == "ours" else version
    with pytest.raises(MessageError) as refused:
        worker[0]._parse(encode_embedded(replace(view("anna"), embedding=embedding, embedder_version=made_by)))
    assert (refused.value.reason, refused.value.field) == ("invalid_field", "embedding")


def on_disk(monkeypatch: pytest.MonkeyPatch, worker: ProfileWorker, rows: list[tuple[bytes, bytes]]) -> None:
    """Let the disk hold these rows, of one user."""

    def scan(partition: int, prefix: bytes) -> list[tuple[bytes, bytes]]:
        del partition, prefix
        return rows

    monkeypatch.setattr(worker.table.data, "scan", scan)


def test_rows_on_disk_that_cannot_be_used_are_passed_over_and_the_others_count(
    worker: tuple[ProfileWorker, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = fold(Bag(), view("anna"), max_slots=9, kept={"v1"})
    prefix = user_prefix("anna")
    rows = [*encode_bag("anna", bag).items(), (prefix + b"\x01hat", b"garbage"), (prefix + b"\x01sock", b"\x01\xc1")]
    on_disk(monkeypatch, worker[0], rows)
    assert worker[0].table.bag(0, "anna") == ([rows[0][0]], bag)


@pytest.mark.parametrize("length", [8, 9, 100_000])
async def test_a_stored_embedding_that_does_not_fit_its_embedder_costs_no_event(
    worker: tuple[ProfileWorker, list[Any]], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """It got in while another bundle was in use, which had no use for it."""
    profile_worker, sent = worker
    stored = replace(
        view("anna"),
        item_id="hat",
        embedding=bytes(length),
        embedder_version=profile_worker._recommender.bundle.embedder_version,
    )
    rows = encode_bag("anna", fold(Bag(), stored, max_slots=9, kept={"v1"}))
    on_disk(monkeypatch, profile_worker, list(rows.items()))
    before = metrics.quarantined_rows._value.get()
    tracker = profile_worker.app.in_flight
    tracker.begin({TopicPartition(TOPIC, 0): 0})
    tracker.put(TopicPartition(TOPIC, 0), records("anna"))

    async with asyncio.TaskGroup() as deliveries:
        await profile_worker._process(await tracker.take(1), deliveries)

    assert sent == [("user-recommendations", b"anna")]
    assert metrics.quarantined_rows._value.get() - before == 1


def test_a_recovery_passes_over_garbage_and_counts_it() -> None:
    good = encode_bag("anna", fold(Bag(), view("anna"), max_slots=9, kept={"v1"}))
    garbage = [(None, b"x"), (b"key", b"{}"), (b"key", None), (user_prefix("anna") + b"\x01hat", b"garbage")]
    before = metrics.quarantined_rows._value.get()
    records = [record("changelog", key=key, value=value) for key, value in [*garbage, *good.items()]]
    records.insert(2, unreadable("changelog", 0, 3, 7))
    assert usable_rows(0, records) == list(good.items())
    assert metrics.quarantined_rows._value.get() - before == len(garbage) + 5
