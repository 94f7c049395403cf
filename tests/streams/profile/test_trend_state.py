"""The counts of a partition: its bags are counted in slices while they change, and the changes since are added."""

import asyncio
from pathlib import Path
from random import Random
from time import monotonic

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle import Bundle
from model.quantization import quantize
from streams.bundles import Bundles
from streams.exceptions import DeliveryError
from streams.kafka.records import Outgoing
from streams.messages import EmbeddedInteraction
from streams.profile import trend_state
from streams.profile.bag import Bag, fold
from streams.profile.counts import Counted
from streams.profile.rows import changes, keys_of, prefix_of, slot_key
from streams.profile.store import BagStore
from streams.profile.trend_state import TrendState
from streams.profile.worker import ProfileWorker
from streams.settings import Settings
from streams.trend.trend import DAY
from tests.bundles import write_trending
from tests.oracle import trend_of
from tests.records import record

USERS = [f"user-{number}" for number in range(40)] + ["u", "user", "\U0001f45f", "x" * 256]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_trending(tmp_path_factory.mktemp("bundles") / "trending"))


def working(bundle: Bundle, folder: Path) -> ProfileWorker:
    """A worker without a broker, with partition 0 on disk."""
    worker = ProfileWorker(Settings.model_construct(), Bundles(bundle), folder, partitions=1)
    worker.table.data.open(0)
    return worker


class Shop:
    """Writes events as the worker does, and keeps the bags that they make."""

    def __init__(self, worker: ProfileWorker, bundle: Bundle) -> None:
        self.worker, self.bundle = worker, bundle
        self.random = Random(3)
        numbers = np.random.default_rng(4).normal(size=(9, bundle.embedding_size)).astype(np.float32)
        self.codes = [quantize(row) for row in numbers]
        self.bags: dict[str, Bag] = {}

    def happen(self, user: str = "") -> None:
        random = self.random
        kind = random.choice(["purchase", "purchase", "view", "cart", "return", "erase"])
        code = random.randrange(9)
        pictured = kind not in {"return", "erase"}
        event = EmbeddedInteraction(
            event_id=f"e{random.random()}", user_id=user or random.choice(USERS), type=kind,  # pyright: ignore[reportArgumentType]
            item_id="" if kind == "erase" else f"i{code}", timestamp=random.randrange(5 * DAY),
            embedder_version=self.bundle.embedder_version if pictured else "",
            embedding=self.codes[code] if pictured else b"",
        )  # fmt: skip
        before = self.bags.get(event.user_id, Bag())
        after = fold(before, event, max_slots=4, kept={self.bundle.embedder_version})
        if rows := changes(event.user_id, keys_of(event.user_id, before), before, after):
            self.bags[event.user_id] = after
            self.worker.table.data.write(0, rows, 1)
            self.worker.trend.written(0, {event.user_id: before}, {event.user_id: after})

    def expected(self) -> dict[int, list[int]]:
        return trend_of(self.bags.values(), self.bundle)


def found(state: TrendState) -> dict[int, list[int]]:
    return {day: row.tolist() for day, row in state._counted[0].counts.rows().items()}


async def scanned(state: TrendState) -> None:
    """Count what is on disk, to the end."""
    await state._scan_partition(0, state._counted[0])


async def test_bags_that_change_while_they_are_counted_count_once(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trend_state, "SLICE", 3)
    shop = Shop(working(bundle, tmp_path), bundle)
    trend = shop.worker.trend
    for _ in range(300):
        shop.happen()
    trend.opened(0)
    assert found(trend) == {}
    scanning = asyncio.create_task(scanned(trend))
    slices = 0
    while not scanning.done():
        shop.happen()
        slices += trend._counted[0].scanned is not None
        await asyncio.sleep(0)
    await scanning
    assert slices > 10, "events came in between"
    for _ in range(100):
        shop.happen()
    assert found(trend) == shop.expected()


async def test_a_partition_that_is_lost_while_it_is_counted_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trend_state, "SLICE", 1)
    shop = Shop(working(bundle, tmp_path), bundle)
    trend = shop.worker.trend
    for _ in range(100):
        shop.happen()
    trend.opened(0)
    scanning = asyncio.create_task(scanned(trend))
    await asyncio.sleep(0)
    shop.worker.table.data.drop(0)  # as when it is revoked: the table is told
    await scanning
    assert trend._counted == {}
    shop.worker.table.data.open(0)  # it comes back, and is empty
    trend.opened(0)
    await scanned(trend)
    assert found(trend) == {}


async def test_the_counts_are_right_again_after_an_assignment(bundle: Bundle, tmp_path: Path) -> None:
    shop = Shop(working(bundle, tmp_path), bundle)
    trend = shop.worker.trend
    trend.opened(0)
    await scanned(trend)
    for _ in range(50):
        shop.happen()
    trend._counted[0].counts.add([(1, Counted(1, 100, shop.codes[0]))])
    assert found(trend) != shop.expected()
    trend.opened(0)
    await scanned(trend)
    assert found(trend) == shop.expected()


async def test_counts_below_0_are_not_published_and_the_bags_are_counted_anew(bundle: Bundle, tmp_path: Path) -> None:
    shop = Shop(working(bundle, tmp_path), bundle)
    trend = shop.worker.trend
    trend.opened(0)
    await scanned(trend)
    shop.happen("ada")
    trend._counted[0].counts.add([(-1, Counted(3, 100, shop.codes[0]))])
    wrong = trend._counted[0]
    await trend._send(0, wrong)
    assert trend._counted[0] is not wrong
    await scanned(trend)
    assert found(trend) == shop.expected()


async def test_labels_that_change_while_bags_are_counted_count_them_anew(bundle: Bundle, tmp_path: Path) -> None:
    shop = Shop(working(bundle, tmp_path), bundle)
    trend, plain = shop.worker.trend, Bundle.load()
    trend.opened(0)
    await scanned(trend)
    for _ in range(50):
        shop.happen()
    trend.use(plain, None)
    assert trend._counted == {}
    shop.happen()
    trend.use(bundle, bundle.item_labels())
    await scanned(trend)
    assert found(trend) == shop.expected()


def test_without_labels_nothing_is_counted_and_the_trend_is_of_nothing(tmp_path: Path) -> None:
    plain = Bundle.load()
    trend = working(plain, tmp_path).trend
    trend.opened(0)
    assert trend._counted == {}
    assert trend.of(plain).version is None
    assert not trend.of(plain).at(DAY).any()


def test_a_bundle_gets_no_trend_that_another_one_counts(bundle: Bundle, tmp_path: Path) -> None:
    trend = working(bundle, tmp_path).trend
    current = trend._follower.current[1]
    assert trend.of(bundle) is current
    assert trend.of(Bundle.load()) is not current


def test_a_start_waits_for_the_trend_only_with_labels(tmp_path: Path) -> None:
    trend = working(Bundle.load(), tmp_path).trend

    async def open_and_close() -> None:
        async with asyncio.timeout(1), trend.running():
            assert trend._tasks == []

    asyncio.run(open_and_close())


class Topic:
    """Stands for the broker: keeps what is sent, as the follower would read it."""

    def __init__(self, trend: TrendState) -> None:
        self.trend = trend
        self.sent: list[tuple[bytes | None, bytes | None]] = []

    async def send_all(self, topic: str, records: list[Outgoing], *, partition: int) -> dict[int, int]:
        for key, value, _ in records:
            self.put(key, value)
        return {partition: len(self.sent) - 1}

    def put(self, key: bytes | None, value: bytes | None) -> None:
        self.sent.append((key, value))
        offset = len(self.sent) - 1
        self.trend._follower.latest.apply([record("category-trend", offset=offset, key=key, value=value)])


async def publishing(bundle: Bundle, folder: Path) -> tuple[Shop, Topic]:
    """A shop whose bags are counted, and the topic that it publishes to."""
    shop = Shop(working(bundle, folder), bundle)
    trend = shop.worker.trend
    topic = Topic(trend)
    trend._publisher = topic  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(100):
        shop.happen()
    trend.opened(0)
    await scanned(trend)
    await trend._send(0, trend._counted[0])
    assert len(topic.sent) == 1
    return shop, topic


async def test_a_snapshot_is_due_after_the_interval_if_the_counts_changed(bundle: Bundle, tmp_path: Path) -> None:
    shop, _ = await publishing(bundle, tmp_path)
    trend = shop.worker.trend
    state = trend._counted[0]
    state.due = 0.0
    assert not trend._is_due(0, state), "nothing changed"
    while not state.changed:
        shop.happen("ada")
    assert trend._is_due(0, state)
    before = monotonic()
    await trend._send(0, state)
    assert state.due >= before + 10
    assert not trend._is_due(0, state)


async def test_large_snapshots_are_written_less_often(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trend_state, "DAILY_BYTES", 100_000)
    shop, topic = await publishing(bundle, tmp_path)
    size = len(topic.sent[0][1] or b"")
    rest = shop.worker.trend._counted[0].due - monotonic()
    assert rest == pytest.approx(size / 100_000 * 86_400, rel=0.1)


@pytest.mark.parametrize("value", [None, b"nonsense"])
async def test_a_snapshot_is_written_again_if_another_record_took_its_place(
    bundle: Bundle, tmp_path: Path, value: bytes | None
) -> None:
    shop, topic = await publishing(bundle, tmp_path)
    trend = shop.worker.trend
    state = trend._counted[0]
    state.due = 0.0
    topic.put(b"0", value)
    assert trend._is_due(0, state)
    await trend._send(0, state)
    assert topic.sent[2] == topic.sent[0]
    state.due = 0.0
    assert not trend._is_due(0, state)


async def test_a_partition_that_comes_with_the_counts_on_the_topic_is_not_published(
    bundle: Bundle, tmp_path: Path
) -> None:
    shop, topic = await publishing(bundle, tmp_path)
    trend = shop.worker.trend
    trend.opened(0)
    await scanned(trend)
    state = trend._counted[0]
    assert trend._is_due(0, state)
    await trend._send(0, state)
    assert len(topic.sent) == 1
    assert not trend._is_due(0, state)


async def test_a_snapshot_that_the_broker_refuses_is_kept_for_later(bundle: Bundle, tmp_path: Path) -> None:
    shop, topic = await publishing(bundle, tmp_path)
    trend = shop.worker.trend
    state = trend._counted[0]

    async def refuse(*args: object, **kwargs: object) -> dict[int, int]:
        raise DeliveryError("no right to write")

    shop.happen("ada")
    topic.send_all = refuse  # pyright: ignore[reportAttributeAccessIssue]
    state.changed = True
    await trend._send(0, state)
    assert state.changed
    assert state.due > monotonic() + 9


@pytest.fixture
def store(tmp_path: Path) -> BagStore:
    return working(Bundle.load(), tmp_path).table.data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 4), max_size=12), st.integers(1, 9))
def test_all_rows_come_once_and_those_of_a_user_together(store: BagStore, users: dict[str, int], least: int) -> None:
    store.open(0)
    rows: dict[bytes, bytes | None] = {
        slot_key(user, f"i{item}"): b"x" for user, count in users.items() for item in range(count)
    }
    store.write(0, rows, 5)
    came: list[tuple[bytes, bytes]] = []
    prefix = b""
    while some := store.users_after(0, prefix, least):
        assert came == [] or prefix_of(some[0][0]) > prefix
        prefix = prefix_of(some[-1][0])
        came += some
    store.drop(0)
    assert came == sorted(rows.items())
