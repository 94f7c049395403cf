"""Recovery from a changelog: nothing is lost, whoever wrote last, and the topic is repaired."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.messages import EmbeddedInteraction
from streams.profile.bag import Bag, fold
from streams.profile.changelog import Merge
from streams.profile.rows import changes, decode_bag
from tests.streams.profile.test_bag import EMBEDDER, events, fold_all

Log = list[tuple[bytes, bytes | None]]


class Writer:
    """A worker that knows only its own events, and writes the changes of each event to a log."""

    def __init__(self, max_slots: int, store: dict[bytes, bytes] | None = None) -> None:
        self.max_slots = max_slots
        self.store = dict(store or {})

    def write(self, event: EmbeddedInteraction) -> Log:
        before = decode_bag(self.store.items())
        after = fold(before, event, max_slots=self.max_slots, kept={EMBEDDER})
        rows = changes("u", list(self.store), before, after)
        apply(self.store, rows.items())
        return list(rows.items())


def apply(store: dict[bytes, bytes], rows: Iterator[tuple[bytes, bytes | None]] | Log | object) -> None:
    for key, value in rows:  # type: ignore[attr-defined]
        if value is None:
            store.pop(key, None)
        else:
            store[key] = value


def recover(log: Log, store: dict[bytes, bytes] | None = None, batch: int = 3) -> tuple[dict[bytes, bytes], Log]:
    """The store after a recovery that starts with `store`, and the repairs to the log."""
    recovered = dict(store or {})

    def scan(prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in recovered.items() if key.startswith(prefix))

    merge = Merge(recovered.get, scan, kept={EMBEDDER})
    for start in range(0, len(log), batch):
        apply(recovered, merge.apply(log[start : start + batch]).items())
    for cut in merge.finish():
        apply(recovered, cut.items())
    return recovered, list(merge.repairs().items())


def newest(log: Log) -> dict[bytes, bytes]:
    """A log after compaction, without tombstones."""
    rows: dict[bytes, bytes] = {}
    apply(rows, log)
    return rows


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), st.integers(1, 5), st.data())
def test_a_log_of_one_writer_restores_its_store_and_needs_no_repair(
    history: list[EmbeddedInteraction], max_slots: int, batch: int, data: st.DataObject
) -> None:
    writer = Writer(max_slots)
    log = [row for event in history for row in writer.write(event)]
    start = data.draw(st.integers(0, len(log)), label="offset of a store that was kept")

    assert recover(log, batch=batch) == (writer.store, [])
    kept = newest(log[:start])
    assert recover(log[start:], kept, batch)[0] == writer.store


@settings(max_examples=500, deadline=None)
@given(events, events, events, st.integers(1, 4), st.randoms(use_true_random=False))
def test_of_two_writers_neither_overwrites_the_other_whoever_wrote_last(
    shared: list[EmbeddedInteraction],
    one: list[EmbeddedInteraction],
    other: list[EmbeddedInteraction],
    max_slots: int,
    random: object,
) -> None:
    """A zombie folds `one`, the new owner `other`, from the same state; their records interleave. The zombie's events come again."""
    first = Writer(max_slots)
    log = [row for event in shared for row in first.write(event)]
    zombie, owner = Writer(max_slots, first.store), Writer(max_slots, first.store)
    writes = [(zombie, event) for event in one] + [(owner, event) for event in other]
    random.shuffle(writes)  # type: ignore[attr-defined]
    for writer, event in writes:
        log += writer.write(event)

    store, repairs = recover(log)
    log += repairs
    assert recover(log)[0] == store, "what was repaired stays"
    assert decode_bag(newest(log).items()) == decode_bag(store.items()), "compaction takes nothing away"

    after = Writer(max_slots, store)
    for event in one:  # of the zombie nothing was committed
        log += after.write(event)
    assert decode_bag(after.store.items()) == fold_all([*shared, *one, *other], max_slots)


@settings(max_examples=300, deadline=None)
@given(events, st.integers(1, 4), st.data())
def test_rows_below_the_floor_are_removed_from_the_log(
    history: list[EmbeddedInteraction], max_slots: int, data: st.DataObject
) -> None:
    """A worker that died between a header and its deletions, for example during an erasure, leaves rows behind."""
    writer = Writer(max_slots)
    log = [row for event in history for row in writer.write(event)]
    cut = data.draw(st.integers(0, len(log)))
    store, repairs = recover(log[:cut])

    assert newest(log[:cut] + repairs) == store
    bag = decode_bag(store.items())
    assert len(store) == len(bag.slots) + (bag.floor is not None), "no row that the bag does not have"


@settings(max_examples=300, deadline=None)
@given(events, events, st.integers(1, 4), st.data())
def test_rows_that_a_zombie_writes_below_a_floor_that_was_recovered_before_are_removed_too(
    one: list[EmbeddedInteraction], other: list[EmbeddedInteraction], max_slots: int, data: st.DataObject
) -> None:
    """The floor lies before the offset of the store, and the row behind it."""
    owner, zombie = Writer(max_slots), Writer(max_slots)
    log = [row for event in one for row in owner.write(event)]
    late = [row for event in other for row in zombie.write(event)]
    cut = data.draw(st.integers(0, len(late)))
    before, _ = recover(log + late[:cut])
    store, repairs = recover(late[cut:], before)

    bag = decode_bag(store.items())
    assert len(store) == len(bag.slots) + (bag.floor is not None), "no row that the bag does not have"
    assert store == recover(log + late)[0]
    written = {key for key, value in newest(late[cut:]).items() if store.get(key) != value}
    assert written <= dict(repairs).keys(), "the topic has no such row either"


def test_a_log_without_records_is_an_empty_bag() -> None:
    assert recover([]) == ({}, [])
    assert decode_bag([]) == Bag()
