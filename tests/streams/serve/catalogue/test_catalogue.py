"""The catalogue: which items there are, what can be found, and what a search sees while it changes."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.item_search.index import CodeIndex
from model.quantization import HEADER_BYTES, dequantize
from streams.messages import InteractionType
from streams.profile.bag import Bag, Embedder
from streams.serve.catalogue.catalogue import ItemCatalogue
from streams.serve.catalogue.columns import LEAST
from streams.serve.catalogue.recent import WEEK
from streams.serve.catalogue.update import COOLING
from streams.serve.interface import Catalogue, Item, Listing, Wanted
from tests.streams.serve.catalogue.made import SIZE, Made, bag_of, code_of, event, listed, removed, url


def found(made: Made, wanted: Wanted | None = None) -> set[str]:
    """The ids of what may be recommended."""
    places = np.flatnonzero(made.catalogue.mask(wanted or Wanted()))
    return {item.item_id for item in made.catalogue.at(places.tolist())}


def code(made: Made, item_id: str) -> bytes | None:
    place = made.catalogue.place(item_id)
    return None if place is None else made.catalogue.codes([place])[0]


def popularity(made: Made, item_id: str) -> float:
    [place] = [place for place in range(len(made.catalogue.popularity)) if holds(made, place, item_id)]
    return float(made.catalogue.popularity[place])


def holds(made: Made, place: int, item_id: str) -> bool:
    row = made.store.place(place)
    return row is not None and row.item_id == item_id and made.catalogue._memory.columns.hashes[place] != 0


# -- items of the topic


def test_an_item_is_found_once_its_picture_has_features(made: Made) -> None:
    assert made.catalogue.apply([listed("a", title="A", price=2.5, currency="EUR", in_stock=True)], {0: 1}) == [
        url("a")
    ]
    assert found(made) == set()
    assert made.catalogue.place("a") is None
    expected = Item(item_id="a", image_url=url("a"), title="A", price=2.5, currency="EUR", in_stock=True, listed=True)
    assert made.catalogue.get("a") == expected
    made.give("a")
    assert found(made) == {"a"}
    assert code(made, "a") == code_of("a")


def test_null_removes_an_item(made: Made) -> None:
    made.catalogue.apply([listed("a"), listed("b")], {})
    made.give("a", "b")
    made.catalogue.apply([removed("a")], {})
    assert found(made) == {"b"}
    assert made.catalogue.get("a") is None
    assert len(made.catalogue) == 1


def test_a_forgotten_picture_takes_its_code_along_and_another_picture_with_it_not(made: Made) -> None:
    made.catalogue.apply([listed("a", "shared"), listed("b", "shared"), listed("c")], {})
    made.give("shared", "c")
    assert found(made) == {"a", "b", "c"}
    made.catalogue.code({url("shared"): b""})
    assert found(made) == {"c"}
    made.give("shared")
    assert found(made) == {"a", "b", "c"}


def test_an_item_with_another_picture_waits_for_its_features(made: Made) -> None:
    made.catalogue.apply([listed("a")], {})
    made.give("a")
    assert made.catalogue.apply([listed("a", "new")], {}) == [url("new")]
    assert found(made) == set()
    assert made.store.places_of(url("a")) == []
    made.give("a")  # the features of the old picture once more
    assert found(made) == set()
    made.give("new")
    assert code(made, "a") == code_of("new")


def test_an_item_that_is_written_again_with_the_same_picture_stays_found(made: Made) -> None:
    made.catalogue.apply([listed("a", price=1)], {})
    made.give("a")
    place = made.catalogue.place("a")
    assert made.catalogue.apply([listed("a", price=3)], {}) == []
    assert made.catalogue.place("a") == place
    assert found(made, Wanted(price_max=2)) == set()


@pytest.mark.parametrize("later_first", [True, False])
def test_of_records_in_two_partitions_the_later_counts_and_within_one_the_last(made: Made, later_first: bool) -> None:
    records = [listed("a", title="old", timestamp=1, partition=0), listed("a", title="new", timestamp=2, partition=3)]
    for record in reversed(records) if later_first else records:
        made.catalogue.apply([record], {})
    made.catalogue.apply([removed("a", timestamp=1, partition=0)], {})
    item = made.catalogue.get("a")
    assert item is not None
    assert item.title == "new"
    made.catalogue.apply([listed("a", title="clock set back", timestamp=0, partition=3)], {})
    item = made.catalogue.get("a")
    assert item is not None
    assert item.title == "clock set back"


def test_it_is_ready_once_the_items_on_disk_are_in_memory_and_the_reading_can_be_stopped(made: Made) -> None:
    made.catalogue.apply([listed("a")], {})
    made.give("a")
    other = ItemCatalogue(made.store, CodeIndex(SIZE), made.embedder)
    other.stop()
    other.load()
    assert (other.ready, len(other)) == (False, 0)
    made.restart()
    assert (made.catalogue.ready, found(made)) == (True, {"a"})


# -- items that events named


def test_an_item_that_events_named_is_there_as_long_as_some_bag_holds_it(made: Made) -> None:
    ada, bob = bag_of(event("ada", "a")), bag_of(event("bob", "a"), event("bob", "b"))
    made.catalogue.written(0, {}, {"ada": ada})
    made.catalogue.written(1, {}, {"bob": bob})
    assert made.catalogue.get("a") == Item(item_id="a", image_url=url("a"))
    assert code(made, "a") == code_of("a")
    assert popularity(made, "a") == 2
    returned = bag_of(event("ada", "a", "return", timestamp=5), bag=ada)
    made.catalogue.written(0, {"ada": ada}, {"ada": returned})
    assert popularity(made, "a") == 1
    made.catalogue.written(1, {"bob": bob}, {"bob": bag_of(event("bob", "", "erase", timestamp=9), bag=bob)})
    assert found(made) == set()
    assert len(made.catalogue) == 0


def test_popular_is_what_bags_touched_in_the_newest_week_or_the_four_before_it(made: Made) -> None:
    bags = {f"user-{week}": bag_of(event(f"user-{week}", "a", timestamp=week * WEEK)) for week in range(10, 16)}
    made.catalogue.written(0, {}, bags)
    assert popularity(made, "a") == 5, "the oldest of six weeks does not count"
    again = bag_of(event("user-10", "a", timestamp=15 * WEEK), bag=bags["user-10"])
    made.catalogue.written(0, {"user-10": bags["user-10"]}, {"user-10": again})
    assert popularity(made, "a") == 6, "a bag counts in the week in which it touched the item last"
    made.catalogue.apply([listed("a", "new picture")], {})
    made.give("new picture")
    assert popularity(made, "a") == 6, "also at another place"
    later = bag_of(event("later", "b", timestamp=21 * WEEK - 1))
    made.catalogue.written(0, {}, {"later": later})
    assert popularity(made, "a") == 0
    erased = bag_of(event("later", "", "erase", timestamp=21 * WEEK - 1), bag=later)
    made.catalogue.written(0, {"later": later}, {"later": erased})
    made.catalogue.forget_bags()
    made.catalogue.written(0, {}, {**bags, "later": erased})
    assert popularity(made, "a") == 0, "the time of an erasure is one, too"


def test_the_topic_comes_before_events_and_the_events_count_again_when_it_removes_the_item(made: Made) -> None:
    made.catalogue.written(0, {}, {"ada": bag_of(event("ada", "a", picture="from the event"))})
    made.catalogue.apply([listed("a", "listed", price=1)], {})
    assert found(made) == set()
    made.give("listed")
    assert code(made, "a") == code_of("listed")
    assert popularity(made, "a") == 1
    made.catalogue.apply([removed("a")], {})
    assert code(made, "a") == code_of("from the event")
    assert made.catalogue.get("a") == Item(item_id="a", image_url=url("from the event"))
    assert found(made, Wanted(price_max=2)) == set()
    assert popularity(made, "a") == 1


@pytest.mark.parametrize("newer_first", [True, False])
def test_the_newest_picture_that_bags_have_of_an_item_counts(made: Made, newer_first: bool) -> None:
    bags = {
        "ada": bag_of(event("ada", "a", timestamp=5, picture="new")),
        "bob": bag_of(event("bob", "a", timestamp=4, picture="old")),
    }
    for user in bags if newer_first else reversed(bags):
        made.catalogue.written(0, {}, {user: bags[user]})
    assert code(made, "a") == code_of("new")
    item = made.catalogue.get("a")
    assert item is not None
    assert (item.item_id, item.image_url) == ("a", url("new"))


@pytest.mark.parametrize("other", [Embedder("another", HEADER_BYTES + SIZE), Embedder("embedder", HEADER_BYTES + 9)])
def test_pictures_of_another_embedder_are_not_searched(tmp_path: Path, other: Embedder) -> None:
    made = Made(tmp_path / "other", other)
    made.catalogue.written(0, {}, {"ada": bag_of(event("ada", "a"))})
    assert (len(made.catalogue), found(made)) == (1, set())
    made.store.close()


# -- the answers


def test_filters_ask_for_labels_in_any_case_stock_and_price_and_leave_out_items(made: Made) -> None:
    made.catalogue.apply(
        [
            listed("a", categories=["Camera", "new arrivals"], price=10, in_stock=True),
            listed("b", categories=["STRASSE", "camera"], price=19.99, in_stock=False),
            listed("c"),
        ],
        {},
    )
    made.give("a", "b", "c")
    assert found(made) == {"a", "b", "c"}
    assert found(made, Wanted(category="CAMERA")) == {"a", "b"}
    assert found(made, Wanted(category="straße")) == {"b"}
    assert found(made, Wanted(category="cam")) == set()
    assert found(made, Wanted(in_stock=True)) == {"a"}
    assert found(made, Wanted(price_max=19.99)) == {"a", "b"}
    assert found(made, Wanted(price_max=19.98)) == {"a"}
    assert found(made, Wanted(category="camera", without=["a", "unknown"])) == {"b"}


def test_an_item_with_more_labels_than_the_others_has_all_of_them(made: Made) -> None:
    made.catalogue.apply([listed("a", categories=["x"]), listed("b", categories=[f"l{n}" for n in range(32)])], {})
    made.give("a", "b")
    assert [found(made, Wanted(category=f"L{n}")) for n in range(32)] == [{"b"}] * 32
    made.catalogue.apply([listed("b", categories=["x"])], {})
    assert found(made, Wanted(category="l31")) == set()
    assert found(made, Wanted(category="x")) == {"a", "b"}


def test_the_nearest_items_are_those_of_a_plain_comparison(made: Made) -> None:
    names = [f"item-{number}" for number in range(50)]
    made.catalogue.apply([listed(name) for name in names], {})
    made.give(*names)
    query = np.ones((1, SIZE), np.float32)
    catalogue: Catalogue = made.catalogue
    places, cosines = catalogue.nearest(query, 5, catalogue.mask(Wanted(without=["item-3"])))
    values = dequantize([code_of(name) for name in names], SIZE)
    expected = values @ query[0] / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
    order = [names[number] for number in np.argsort(-expected) if number != 3][:5]
    assert [item.item_id for item in made.catalogue.at(places[0].tolist())] == order
    assert np.all(np.diff(cosines[0]) <= 0)


def test_a_place_that_was_found_says_what_was_there_for_a_minute(made: Made) -> None:
    made.catalogue.apply([listed("a")], {})
    made.give("a")
    [place] = np.flatnonzero(made.catalogue.mask(Wanted())).tolist()
    made.catalogue.apply([removed("a"), listed("b", price=1)], {})
    made.give("b")
    assert made.catalogue.place("b") != place
    assert (made.catalogue.at([place])[0].item_id, made.catalogue.codes([place])) == ("a", [code_of("a")])
    made.now += COOLING
    made.catalogue.apply([listed("c")], {})
    made.give("c")
    assert made.catalogue.place("c") == place
    assert len(made.catalogue.mask(Wanted())) == 2, "places are used again"


def test_a_new_code_comes_to_a_new_place_so_that_a_search_sees_whole_codes(made: Made) -> None:
    made.catalogue.apply([listed("a", "one"), listed("b", "two")], {})
    made.give("one", "two")
    for picture in ("three", "four"):
        made.catalogue.apply([listed("a", picture)], {})
        made.give(picture)
        made.catalogue.code({url("two"): b""})
        made.give("two")
    assert sorted(made.index.puts) == sorted(set(made.index.puts)), "no code was written over another one"
    assert found(made) == {"a", "b"}
    assert code(made, "a") == code_of("four")


def test_nothing_is_left_of_an_item_a_minute_after_its_last_bag(made: Made) -> None:
    bag = bag_of(event("ada", "a"))
    made.catalogue.written(0, {}, {"ada": bag})
    place = made.catalogue.place("a")
    assert place is not None
    made.catalogue.written(0, {"ada": bag}, {})
    made.catalogue.cool_down()
    assert made.store.place(place) is not None
    made.now += COOLING
    made.catalogue.cool_down()
    assert made.store.place(place) is None


def test_a_search_in_another_thread_sees_whole_codes_of_the_items_that_it_finds(made: Made) -> None:
    pictures = [f"picture-{number}" for number in range(40)]
    made.catalogue.apply([listed(str(number), pictures[number]) for number in range(20)], {})
    made.give(*pictures)
    query, stop = np.ones((1, SIZE), np.float32), threading.Event()

    def search() -> int:
        searches = 0
        while not stop.is_set():
            places, cosines = made.catalogue.nearest(query, 5, made.catalogue.mask(Wanted()))
            found = made.catalogue.codes(places[0].tolist())
            values = dequantize(found, SIZE)
            expected = values.sum(axis=1) / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
            np.testing.assert_allclose(cosines[0], expected, rtol=1e-5)
            assert len(made.catalogue.at(places[0].tolist())) == len(found)
            searches += 1
        return searches

    with ThreadPoolExecutor(1) as thread:
        searching = thread.submit(search)
        try:
            for turn in range(60):
                changed = [listed(str(number), pictures[(number + turn) % 40]) for number in range(20)]
                made.catalogue.apply(changed, {})
                made.give(*pictures)
        finally:
            stop.set()
        assert searching.result() > 10


def test_more_items_than_there_is_room_for_at_first(made: Made) -> None:
    names = [str(number) for number in range(LEAST + 500)]
    mask = made.catalogue.mask(Wanted())
    made.catalogue.apply([listed(name, price=number) for number, name in enumerate(names)], {})
    made.give(*names)
    assert len(mask) == 0, "whoever has a mask keeps it"
    assert found(made) == set(names)
    assert all(code(made, name) == code_of(name) for name in names[::97])
    made.catalogue.apply([removed(name) for name in names[:-3]], {})
    assert found(made) == set(names[-3:])


def constant(item_id: str) -> int:
    return 7 if item_id else 0


def test_ids_with_one_hash_are_kept_apart(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("catalogue", "update"):
        monkeypatch.setattr(f"streams.serve.catalogue.{module}.hash_of", constant)
    names = [f"{number}" for number in range(20)]
    made.catalogue.apply([listed(name) for name in names], {})
    made.give(*names)
    made.catalogue.apply([removed(name) for name in names[5:15]], {})
    assert found(made) == {*names[:5], *names[15:]}
    assert [code(made, name) for name in names[:5]] == [code_of(name) for name in names[:5]]
    assert made.catalogue.get("7") is None


# -- restarts


def test_after_a_restart_the_items_and_their_codes_are_there_and_bags_come_again(made: Made) -> None:
    made.catalogue.apply([listed("a", price=1, categories=["x"]), listed("b")], {0: 2, 3: 7})
    made.give("a")
    made.catalogue.written(0, {}, {"ada": bag_of(event("ada", "c"))})
    made.restart()
    assert made.store.offsets == {0: 2, 3: 7}
    assert found(made, Wanted(category="x", price_max=1)) == {"a"}
    assert len(made.catalogue) == 2
    assert [*made.catalogue.without_code()] == [[url("b")]]
    made.give("b")
    assert found(made) == {"a", "b"}


def test_codes_of_another_embedder_are_made_again(made: Made) -> None:
    made.catalogue.apply([listed("a")], {})
    made.give("a")
    made.restart(Embedder("next", HEADER_BYTES + SIZE))
    assert found(made) == set()
    assert [*made.catalogue.without_code()] == [[url("a")]]
    made.give("a")
    assert [*made.catalogue.without_code()] == [[]]


def test_a_store_of_another_format_or_that_is_damaged_is_read_again(made: Made) -> None:
    made.catalogue.apply([listed("a")], {0: 1})
    made.store._items.put(b"topic", b"\x93\x00\xa0\x00")
    made.restart()
    assert (len(made.catalogue), made.store.offsets) == (0, {})
    made.catalogue.apply([listed("a")], {0: 1})
    made.store.close()
    for file in (made.folder / "items").glob("MANIFEST*"):
        file.write_bytes(b"no manifest")
    made.open()
    assert (len(made.catalogue), made.store.offsets) == (0, {})


def test_another_topic_drops_the_items_of_the_one_before_and_keeps_those_of_bags(made: Made) -> None:
    made.catalogue.apply([listed("a"), listed("b")], {0: 2})
    made.give("a", "b")
    made.catalogue.written(0, {}, {"ada": bag_of(event("ada", "b"))})
    made.catalogue.start_over(made.store.source)
    assert found(made) == {"b"}
    assert made.store.offsets == {}
    item = made.catalogue.get("b")
    assert item is not None
    assert not item.listed


# -- against a model

NAMES = [f"item-{number}" for number in range(6)]
USERS = ["ada", "bob", "cy"]
PICTURES = ["p", "q", "r"]
KINDS: list[InteractionType] = ["view", "purchase", "return", "erase"]
steps = st.one_of(
    st.tuples(st.just("list"), st.sampled_from(NAMES), st.sampled_from(PICTURES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("features"), st.sampled_from(PICTURES), st.booleans()),
    st.tuples(st.just("event"), st.sampled_from(USERS), st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS))),
    st.tuples(st.just("again"), st.integers(0, 20), st.just("")),
    st.tuples(st.just("minute"), st.just(""), st.just("")),
    st.tuples(st.just("restart"), st.just(""), st.just("")),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=30), st.integers(1, 6))
def test_after_any_changes_the_catalogue_equals_a_dictionary(changes: list[tuple[str, Any, Any]], size: int) -> None:
    with TemporaryDirectory() as folder:
        made = Made(Path(folder))
        topic: list[Any] = []
        pictures: set[str] = set()
        bags: dict[str, Bag] = {}
        for number, (what, one, other) in enumerate(changes, 1):
            if what in {"list", "remove"}:
                topic.append(removed(one) if what == "remove" else listed(one, other, price=number))
                made.catalogue.apply(topic[-1:], {0: len(topic)})
                made.give(*pictures)
            elif what == "again":  # the last records are read again
                made.catalogue.apply(topic[-one - 1 :], {0: len(topic)})
                made.give(*pictures)
            elif what == "features":
                (pictures.add if other else pictures.discard)(one)
                made.catalogue.code({url(one): code_of(one) if other else b""})
            elif what == "event":
                before = bags.get(one, Bag())
                bags[one] = bag_of(event(one, *other, timestamp=number), bag=before)
                made.catalogue.written(0, {one: before}, {one: bags[one]})
                made.catalogue.written(0, {one: bags[one]}, {one: bags[one]})
            elif what == "minute":
                made.now += COOLING
            else:
                made.restart()
                for start in range(0, len(bags), size):
                    users = list(bags)[start : start + size]
                    made.catalogue.written(0, {}, {user: bags[user] for user in users})
        newest = {record.record.item_id: record.record.item for record in topic}
        items = {name: item for name, item in newest.items() if item is not None}
        counts = Counter(name for bag in bags.values() for name, slot in bag.slots.items() if slot.since_return)
        pictured = {
            name
            for bag in bags.values()
            for name, slot in bag.slots.items()
            if slot.since_return and slot.picture("embedder")
        }
        expected = {
            name: code_of(item.image_url[21:-4]) for name, item in items.items() if item.image_url[21:-4] in pictures
        }
        expected |= {name: code_of(name) for name in pictured if name not in items}
        assert {name: code(made, name) for name in found(made)} == expected
        assert len(made.catalogue) == len(items.keys() | counts.keys())
        assert {name: popularity(made, name) for name in items.keys() | counts.keys()} == {
            name: counts[name] for name in items.keys() | counts.keys()
        }
        for name, item in items.items():
            got = made.catalogue.get(name)
            assert got is not None
            assert (got.price, got.image_url, got.listed) == (item.price, item.image_url, True)
        made.store.close()


def test_listings_have_the_newest_items_those_that_bags_hold_and_those_without_a_picture(made: Made) -> None:
    records = [listed("a", timestamp=3), listed("b", timestamp=1), listed("c", timestamp=2), listed("d", timestamp=9)]
    made.catalogue.apply(records, {})
    made.give("a", "b", "c")
    made.catalogue.written(
        0, {}, {"ada": bag_of(event("ada", "b")), "bob": bag_of(event("bob", "b"), event("bob", "x"))}
    )

    def names(which: Listing, count: int = 10) -> list[str]:
        return [item.item_id for item in made.catalogue.at(made.catalogue.listing(which, count))]

    assert names("new") == ["a", "c", "b"]
    assert names("new", 1) == ["a"]
    assert names("held") == ["b", "x"]
    assert names("without_picture") == ["d"]


def test_a_change_of_an_item_does_not_make_it_new_and_its_return_does(made: Made) -> None:
    made.catalogue.apply([listed("a", timestamp=1), listed("b", timestamp=2)], {})
    made.give("a", "b")
    made.catalogue.apply([listed("a", title="A", timestamp=3)], {})
    assert made.catalogue.at(made.catalogue.listing("new", 1))[0].item_id == "b"
    assert [item.arrived for item in made.catalogue.at(made.catalogue.listing("new", 2))] == [2, 1]
    made.catalogue.apply([removed("a", timestamp=4), listed("a", timestamp=5)], {})
    made.give("a")
    assert made.catalogue.at(made.catalogue.listing("new", 1))[0].item_id == "a"
