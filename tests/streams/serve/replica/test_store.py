"""The copy of the bags: whatever the batches, restarts and deaths, it is what the events make, and what a recovery makes."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.databases import RocksDBMemory, is_own, items_in
from streams.profile.rows import Changes, changed, changes, decode_bag, encode_bag, user_prefix
from streams.serve.replica.store import ERASED_KEY, ReplicaStore
from tests.stored import bags_of
from tests.streams.profile.test_bag import EMBEDDER, ROW, event, events, fold_all
from tests.streams.profile.test_changelog import Log, Writer, recover

KEPT = {EMBEDDER: len(ROW)}
MEMORY = RocksDBMemory(8 * 1024**2)


@dataclass
class Row:
    """A record of the changelog."""

    offset: int
    key: bytes | None
    value: bytes | None


class Seen:
    """A watcher that scans all bags when a partition is opened, and then keeps what it is told."""

    def __init__(self, scan: Callable[[], dict[str, Bag]]) -> None:
        self.told: list[str] = []
        self.bags: dict[str, Bag] = {}
        self.scan = scan

    def opened(self, partition: int) -> None:
        self.told.append(f"opened {partition}")
        self.bags = self.scan()

    def closed(self, partition: int) -> None:
        self.told.append(f"closed {partition}")

    def written(self, partition: int, before: Mapping[str, Bag], after: Mapping[str, Bag]) -> None:
        assert before.keys() == after.keys()
        for user, bag in after.items():
            known = self.bags.get(user, Bag())
            if user in self.bags:
                assert before[user].slots.items() <= known.slots.items()
                assert before[user].floor == known.floor
            rest = {item: slot for item, slot in known.slots.items() if item not in before[user].slots}
            self.bags[user] = Bag({**rest, **bag.slots}, bag.floor)


class Died(Exception):
    """The process was killed."""


class Copy:
    """A store, as the follower of one partition uses it."""

    def __init__(self, folder: Path, *, live: bool) -> None:
        self.store = ReplicaStore(folder, MEMORY, KEPT, recent_slots=100, recent_bytes=10**6)
        self.seen = Seen(lambda: bags_of(self.rows().items()))
        self.store.watchers.append(self.seen)
        self.offset = self.store.databases.open(0)
        self.store.begin(0, gather=not live)

    def take(self, log: Sequence[tuple[bytes | None, bytes | None]], size: int) -> None:
        """The next `size` records."""
        rows = [Row(offset, *row) for offset, row in enumerate(log)][self.offset + 1 :][:size]
        if rows:
            self.store.take(0, rows, rows[-1].offset)
            self.offset = rows[-1].offset

    def die_at(self, write: int) -> None:
        """Die before the write of this number."""
        writes = self.store.databases.write
        left = write

        def counted(partition: int, rows: Changes, offset: int | None = None) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died
            writes(partition, rows, offset)

        self.store.databases.write = counted

    def checkpoint(self, *, at_end: bool) -> None:
        if not self.store.is_live(0):
            asyncio.run(self.store.checkpoint(0, self.offset, at_end=at_end))

    def rows(self) -> dict[bytes, bytes]:
        return {key: value for key, value in items_in(self.store.databases._databases[0]) if not is_own(key)}

    def close(self) -> None:
        self.store.databases.close(0)


step = st.tuples(
    st.sampled_from(["take", "take", "take", "restart", "die", "checkpoint", "live", "live"]),
    st.integers(1, 6),
    st.booleans(),
)


@settings(
    max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)  # shrinking takes minutes
@given(events, events, st.integers(1, 4), st.lists(step, max_size=12), st.randoms(use_true_random=False))
def test_the_bags_are_those_of_the_events_and_of_a_recovery(
    one: list[EmbeddedInteraction],
    other: list[EmbeddedInteraction],
    max_slots: int,
    steps: list[tuple[str, int, bool]],
    random: object,
) -> None:
    """Two writers that do not know of each other, and a replica that is restarted and killed between any two records and writes."""
    writers = Writer(max_slots), Writer(max_slots)
    writes = [(writers[0], event) for event in one] + [(writers[1], event) for event in other]
    random.shuffle(writes)  # type: ignore[attr-defined]
    log = [row for writer, event in writes for row in writer.write(event)]
    expected, _ = recover(log)

    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder), live=False)
        for what, number, live in [*steps, ("take", len(log), False), ("live", 0, False)]:
            if what in {"restart", "die"}:
                was_live = copy.store.is_live(0)
                if what == "die":
                    copy.die_at(number - 1)
                    with_death(copy, log)
                copy.close()
                copy = Copy(Path(folder), live=live and was_live)
            elif what == "checkpoint":
                copy.checkpoint(at_end=False)
            elif what == "live":
                copy.checkpoint(at_end=True)
            else:
                copy.take(log, number)
            _check_cache(copy)
        assert copy.rows() == expected
        copy.close()


def with_death(copy: Copy, log: Log) -> None:
    with suppress(Died):
        copy.take(log, 6)
        copy.checkpoint(at_end=True)


def _check_cache(copy: Copy) -> None:
    """What is read from memory is what the disk has, and what the watchers were told."""
    on_disk = decode_bag(copy.rows().items())
    assert copy.store.bag(0, "u") == on_disk
    if copy.store.is_live(0):
        assert copy.seen.bags.get("u", Bag()) == on_disk


@settings(max_examples=100, deadline=None)
@given(events, events, st.integers(1, 4))
def test_a_bag_changes_as_its_rows_do(
    history: list[EmbeddedInteraction], more: list[EmbeddedInteraction], max_slots: int
) -> None:
    before = after = fold_all(history, max_slots)
    for one in more:
        after = fold(after, one, max_slots=max_slots, kept={EMBEDDER})
    rows = changes("u", list(encode_bag("u", before)), before, after)
    assert changed("u", before, rows) == after


def test_the_watchers_are_told_of_a_floor_that_came_before(tmp_path: Path) -> None:
    log = log_of(event("view", 1, "a"), event("erase", 5), event("view", 8, "c"), event("view", 9, "c"))
    copy = Copy(tmp_path, live=True)
    for _ in log:
        copy.take(log, 1)
        _check_cache(copy)
    assert copy.seen.bags["u"].floor is not None
    copy.close()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path, live=False)


def log_of(*history: EmbeddedInteraction, max_slots: int = 10) -> Log:
    writer = Writer(max_slots)
    return [row for one in history for row in writer.write(one)]


def test_a_floor_that_comes_after_the_slots_cuts_them_also_from_a_live_partition(copy: Copy) -> None:
    log = log_of(event("view", 1, "a"), event("view", 2, "b"), event("view", 9, "c"), event("erase", 5))
    header = next(row for row in log if row[0] == user_prefix("u") + b"\x00")
    slots = [row for row in log if row[1] is not None and row != header]
    copy.checkpoint(at_end=True)
    copy.take([*slots, header], 3)
    assert len(copy.rows()) == 3
    copy.take([*slots, header], 1)  # its writer died before the deletions
    assert len(copy.rows()) == 2
    assert set(copy.store.bag(0, "u").slots) == {"c"}
    assert copy.seen.bags["u"] == copy.store.bag(0, "u")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("write", range(5))
def test_a_death_between_two_writes_loses_nothing(tmp_path: Path, write: int, live: bool) -> None:
    log = log_of(event("view", 1, "a"), event("view", 9, "b"), event("erase", 5), event("view", 8, "c"))
    copy = Copy(tmp_path, live=live)
    copy.die_at(write)
    with_death(copy, [row for row in log if row[1] is not None])
    copy.close()
    copy = Copy(tmp_path, live=live)
    copy.take([row for row in log if row[1] is not None], 9)
    copy.checkpoint(at_end=True)
    assert copy.rows() == recover(log)[0]
    copy.close()


def test_the_watchers_are_told_of_live_partitions_only(copy: Copy) -> None:
    log = log_of(*(event("view", number, f"i{number}") for number in range(6)))
    copy.take(log, 3)
    assert copy.seen.told == [] and not copy.seen.bags
    copy.checkpoint(at_end=True)
    assert copy.seen.told == ["opened 0"]
    copy.take(log, 3)
    assert len(copy.seen.bags["u"].slots) == 6
    copy.store.databases.drop(0)
    assert copy.seen.told == ["opened 0", "closed 0"]


def test_rows_that_cannot_be_used_are_passed_over(copy: Copy) -> None:
    good = log_of(event("view", 1, "a"))
    copy.checkpoint(at_end=True)
    copy.take([(b"nonsense", b"x"), (None, b"x"), *good, (good[0][0], b"\x02\xc1")], 4)
    assert set(copy.store.bag(0, "u").slots) == {"a"}
    assert copy.offset == copy.store.databases.last_offset(0) == 3


def files_with(folder: Path, *words: bytes) -> set[str]:
    contents = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name for name, content in contents.items() if any(word in content for word in words)}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("many", [False, True])
async def test_an_erased_user_leaves_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool, many: bool
) -> None:
    monkeypatch.setattr("streams.serve.replica.store.GATHERING", 0.0)
    if many:
        monkeypatch.setattr("streams.serve.replica.store.RANGES", 0)
    store = ReplicaStore(tmp_path, MEMORY, KEPT, recent_slots=100, recent_bytes=10**6)
    store.databases.open(0)
    store.begin(0, gather=False)
    for number in range(50):
        user = f"user-{number:03}"
        bag = fold_all([event("view", 1, f"thing-{user}")])
        store.take(0, [Row(number, key, value) for key, value in encode_bag(user, bag).items()], number)
    store.databases.compact(0, None)  # the list of files names the last key
    words = b"thing-user-000", b"thing-user-025", b"thing-user-049"
    assert files_with(tmp_path, words[2])
    for number, user in enumerate(["user-000", "user-025", "user-049"], 50):
        before = fold_all([event("view", 1, f"thing-{user}")])
        after = fold(before, event("erase", 5), max_slots=9, kept={EMBEDDER})
        rows = changes(user, list(encode_bag(user, before)), before, after)
        store.take(0, [Row(number, key, value) for key, value in rows.items()], number)
    if restarted:  # before anything was compacted
        store.databases.close(0)
        store = ReplicaStore(tmp_path, MEMORY, KEPT, recent_slots=100, recent_bytes=10**6)
        store.databases.open(0)
        store.begin(0, gather=False)
    compacting = asyncio.create_task(store.compact_erased())
    async with asyncio.timeout(60):
        while store.databases.row(0, ERASED_KEY) or files_with(tmp_path, *words):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    compacting.cancel()
    await asyncio.gather(compacting, return_exceptions=True)
    assert store.bag(0, "user-025").slots == {}
    assert set(store.bag(0, "user-001").slots) == {"thing-user-001"}
    store.databases.close(0)
