"""What a row lacks, and the interaction that brings it."""

from msgspec.structs import replace

from streams.profile.bag import Moment
from streams.rollout.held import Held, Share, decode_held, encode_held, held, percent, prepared, total
from tests.streams.rollout.made import NEXT, SERVED, bag_of, code, seen, slot_of


def state(*events: object) -> str | None:
    row = held(slot_of(*events), 3, served=SERVED, following=NEXT)  # pyright: ignore[reportArgumentType]
    return row.state if row else None


def test_the_code_of_the_newest_picture_counts() -> None:
    assert state(seen(served=code())) == "missing"
    assert state(seen(served=code(), following=code(1))) == "native"
    assert state(seen(at=1, served=code(), following=code(1)), seen(at=2, served=code(2))) == "stale"
    assert state(seen(at=1, served=code()), seen(at=2, served=code(2), following=code(1))) == "native"


def test_an_adapted_code_counts_apart_until_a_native_one_comes() -> None:
    adapted = replace(seen(), embedder_version=NEXT, embedding=code(1), adapted=True, prepared=True)
    assert state(seen(served=code()), adapted) == "adapted"
    assert state(seen(served=code()), adapted, replace(adapted, adapted=False)) == "native"


def test_a_row_without_a_picture_does_not_count() -> None:
    assert state(seen(kind="return")) is None
    assert state(seen(at=1, served=code()), seen(at=2, kind="return")) == "missing", "its item can come back"


def test_it_is_adapted_from_the_served_embedder_if_that_has_the_newest_picture() -> None:
    stranger = replace(seen(), embedder_version="f" * 12, embedding=code(7))
    row = held(slot_of(seen(served=code()), stranger), 0, served=SERVED, following=NEXT)
    assert row is not None
    assert (row.embedder_version, row.embedding) == (SERVED, code())


def test_it_is_adapted_from_another_embedder_if_only_that_has_the_newest_picture() -> None:
    stranger = replace(seen(at=2000), embedder_version="0" * 12, embedding=code(7))
    row = held(slot_of(seen(at=1000, served=code()), stranger), 0, served=SERVED, following=NEXT)
    assert row is not None
    assert (row.embedder_version, row.embedding, row.moment.timestamp) == ("0" * 12, code(7), 2000)


def test_what_is_kept_of_a_row_is_the_same_after_it_was_written_down() -> None:
    row = held(slot_of(seen(served=code())), 5, served=SERVED, following=NEXT)
    assert row is not None
    assert decode_held(encode_held(row)) == row


def brought(row: Held, user: str = "ann") -> object:
    return prepared(user, row, version=NEXT, code=code(1), adapted=False)


def test_a_prepared_interaction_makes_the_bag_that_both_codes_at_once_make() -> None:
    events = [
        seen("shoe", 1, served=code(), kind="view"),
        seen("shoe", 3, served=code(2), url="http://shop.example/other.jpg"),
        seen("shoe", 2, served=code(), kind="cart"),
        seen("hat", 4, served=code(3)),
        seen("hat", 5, kind="return"),
    ]
    bag = bag_of(events)
    for slot in bag.slots.values():
        row = held(slot, 0, served=SERVED, following=NEXT)
        assert row is not None
        bag = bag_of([brought(row)], bag)  # pyright: ignore[reportArgumentType]
    assert bag == bag_of(
        replace(event, next_embedder_version=NEXT, next_embedding=code(1)) if event.embedding else event
        for event in events
    )


def test_a_prepared_interaction_does_not_bring_back_what_a_floor_covers() -> None:
    row = held(slot_of(seen(at=1000, served=code())), 0, served=SERVED, following=NEXT)
    assert row is not None
    erased = bag_of([seen(at=1000, served=code()), replace(seen(at=1000), type="erase", item_id="")])
    assert not erased.slots
    assert bag_of([brought(row)], erased) is erased or bag_of([brought(row)], erased) == erased  # pyright: ignore[reportArgumentType]


def test_a_prepared_interaction_is_not_stronger_than_a_newer_picture() -> None:
    row = held(slot_of(seen(at=1, served=code())), 0, served=SERVED, following=NEXT)
    assert row is not None
    newer = [seen(at=1, served=code()), seen(at=2, served=code(5), following=code(6))]
    assert bag_of([brought(row)], bag_of(newer)) == bag_of(newer)  # pyright: ignore[reportArgumentType]


def test_the_share_counts_native_and_adapted_codes_and_is_1_without_items() -> None:
    share = total([Share(), Share()])
    assert share.share == 1.0
    for name, count in (("native", 5), ("adapted", 2), ("stale", 2), ("missing", 1)):
        share.states[name] += count  # pyright: ignore[reportArgumentType]
    assert (share.rows, share.ready, share.share) == (10, 7, 0.7)


def test_a_share_is_rounded_down_so_that_100_percent_means_all() -> None:
    assert percent(1.0) == "100.0 %"
    assert percent(0.99999) == "99.9 %"
    assert percent(0.07) == "7.0 %"


def test_the_moment_of_a_prepared_interaction_is_that_of_the_picture() -> None:
    event = prepared(
        "ann", Held("missing", 0, Moment(7, "e", "shoe", "cart"), "http://x/"), version=NEXT, code=b"c", adapted=True
    )
    assert (event.timestamp, event.event_id, event.item_id, event.type) == (7, "e", "shoe", "cart")
    assert (event.prepared, event.adapted, event.embedder_version, event.next_embedding) == (True, True, NEXT, b"")
